"""Verification of keys: from a cache, or by one look-up in the store."""
