"""From a table to a model: features, split, search, fit, evaluation and bounds of the monitor's signals."""
