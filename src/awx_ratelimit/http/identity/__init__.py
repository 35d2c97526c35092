"""The caller of a request: where its API key is, and whose key it is."""
