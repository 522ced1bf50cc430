"""The container images, built and run: `make check-image`. It takes minutes and apt packages, so it is no part of `make test`."""
