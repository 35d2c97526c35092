"""Waiting instead of refusing: a line for each limit, first come, first served."""
