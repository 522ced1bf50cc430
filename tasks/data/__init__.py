"""Tables: `ingest` reads the sources, `validate` checks them, `store_dataset` keeps a version; `build_dataset` makes the rows
that a retraining learns from."""
