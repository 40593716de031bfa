"""Boxes and anchors: where they stand, which object an anchor answers for, and how boxes become deltas."""
