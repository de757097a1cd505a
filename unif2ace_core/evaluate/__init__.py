"""Metrics and suites behind `unif2ace eval`."""
