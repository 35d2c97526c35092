"""Rules by path and method: how a rule is written, and which rules a request matches."""
