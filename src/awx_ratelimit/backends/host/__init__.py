"""Limits in a memory-mapped file that the processes of one machine share."""

from awx_ratelimit.backends.host.backend import HostBackend

__all__ = ["HostBackend"]
