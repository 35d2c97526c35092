"""Wrappers around a backend: a guard with a circuit breaker and a local fallback, and a cache of denials."""
