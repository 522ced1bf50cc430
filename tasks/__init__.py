"""Verbs: one step of training per file, each a plain function and the Prefect task that runs it."""
