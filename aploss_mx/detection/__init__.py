"""A trained detector at work: forward pass, decoding, NMS, export."""
