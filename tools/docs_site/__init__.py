"""The documentation site: `python -m tools.docs_site build`, `serve` or `check`."""
