"""Processes that are killed and stopped at any moment."""
