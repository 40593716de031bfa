"""The ranking losses: plain NumPy functions; `gpu` has their kernels."""
