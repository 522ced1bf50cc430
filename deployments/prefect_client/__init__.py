"""Reading and steering a Prefect API over HTTP: `client.PrefectApi`, and `history.Witness`, one model's runs and events."""
