"""Tables: read the sources, keep a dataset version, validate it, and build what a retraining learns from."""
