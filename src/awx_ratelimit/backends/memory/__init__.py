"""Limits in the memory of one process."""

from awx_ratelimit.backends.memory.backend import MemoryBackend

__all__ = ["MemoryBackend"]
