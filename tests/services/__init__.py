"""Every role of compose.yaml without containers, on PostgreSQL, Redis and nginx as Debian has them: `make check-services`."""
