"""Locust, which patches sockets, threads and locks when it is imported. Import this module before all others.

gevent looks through all installed packages for plugins 25 times, before and after each of its patches. Here it does so
once for each kind of event.
"""

from functools import cache
from importlib import metadata

_look = metadata.entry_points
metadata.entry_points = cache(_look)  # type: ignore[assignment]
try:
    import locust  # noqa: F401
finally:
    metadata.entry_points = _look
