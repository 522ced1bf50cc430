"""Tests of models in the forms of other runtimes."""
