"""Suites of others, run on a mount: what each asks, and which of its answers are known to be no."""
