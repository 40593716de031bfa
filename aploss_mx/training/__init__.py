"""Train a detector: the loop, what it starts from, and what keeps it going."""
