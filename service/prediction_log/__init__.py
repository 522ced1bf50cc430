"""The prediction log: `log.PredictionLog` is what the request path calls; other packages use `streams` and `redis_client`."""
