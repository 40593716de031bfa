"""Data sets, augmentation, loading, and the checks that come before training."""
