"""The kernel of Perennial: what a model *is*. Knows no server, flow engine or tracker."""

__version__ = "0.1.0"
