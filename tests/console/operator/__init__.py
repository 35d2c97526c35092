"""The operator's console without a browser: pages, forms, and what keeps everybody else out."""
