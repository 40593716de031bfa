"""AP-loss and AUC-loss on a GPU."""
