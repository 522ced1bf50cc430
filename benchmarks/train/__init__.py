"""The first training of a model on a large table, measured beside LightGBM called plainly on the same rows."""
