"""Pages of what a detector finds: curves, pictures, errors by kind, labels to look at, and a few runs side by side."""
