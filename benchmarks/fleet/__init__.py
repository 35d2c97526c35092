"""Simulates a fleet of processes that share limits on a server. See `__main__` for the command."""
