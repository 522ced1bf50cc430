"""The version of this release. In a module of its own, so that no module imports the package `perennial` itself for it."""

__version__ = "0.1.0"
