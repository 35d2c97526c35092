"""The console without a browser: its pages over both adapters, its forms, what it costs."""
