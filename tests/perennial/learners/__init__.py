"""Tests of the learners: one contract for all of them, and what each has beside it."""
