"""A Prefect API over plain HTTP: `client.PrefectClient`, and `history.PrefectHistory`, one model's flow runs and events."""
