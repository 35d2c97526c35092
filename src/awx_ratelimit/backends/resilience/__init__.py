"""Wrappers around a backend: a circuit breaker with a local fallback, and a cache of denials."""
