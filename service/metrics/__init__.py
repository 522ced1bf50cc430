"""Prometheus metrics of a worker: `HttpMetrics` counts requests, `WorkerMetrics` what was predicted and logged."""
