"""The console in Chromium, driven by Playwright."""
