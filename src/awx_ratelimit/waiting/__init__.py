"""Waiting instead of refusing: lines of equal claims, first come, first served."""
