"""The rules of a gate: which requests are exempt, and what the others cost."""
