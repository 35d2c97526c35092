"""The REST API of the keys."""
