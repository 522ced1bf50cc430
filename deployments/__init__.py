"""The composition root: the `perennial` command line (`cli`), the local stack, the client of Prefect's API and the demo."""
