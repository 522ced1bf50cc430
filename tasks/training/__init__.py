"""From a table to a model: `build_training_data`, `tune`, `fit`, `evaluate`, `calibrate` and `assemble`, in this order."""
