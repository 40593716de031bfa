"""The ranking losses: plain NumPy functions, and the MXNet operators around them."""
