"""The command `awx-ratelimit`: keys, scan, plans, usage, reset, doctor and loadtest."""
