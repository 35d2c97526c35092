"""Timed observations in, verdicts out: pure functions."""
