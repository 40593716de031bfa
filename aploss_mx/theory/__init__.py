"""What the paper states of its method, as experiments that run on a laptop; `scripts/theory.py` draws them."""
