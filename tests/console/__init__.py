"""The console without a browser: pages, forms, CSRF, login and cost, over both adapters."""
