"""Delivery of a release of the service to two local replicas: canary, smoke test, promotion or automatic rollback."""
