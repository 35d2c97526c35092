"""Freezes the time that the peers read."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pkgutil import resolve_name
from typing import Any
from unittest.mock import patch

from awx_ratelimit.testing import ManualClock

_NS_IN_MS = 1_000_000


class FrozenTime:
    """The module `time`, of which the clock moves only by hand."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock

    def time(self) -> float:
        return self._clock.now_ms() / 1_000

    def time_ns(self) -> int:
        return self._clock.now_ms() * _NS_IN_MS

    monotonic = time
    monotonic_ns = time_ns

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


@contextmanager
def frozen_time(readers: Iterable[str], clock: ManualClock) -> Iterator[None]:
    """In this block the names `readers`, such as ``limits.strategies.time``, read `clock`.

    Each is the module ``time``, or one of its functions, in another module or class.
    """
    frozen = FrozenTime(clock)
    patches = []
    for reader in readers:
        original = resolve_name(reader)
        patches.append(patch(reader, frozen if original is time else getattr(frozen, original.__name__)))
    for each in patches:
        each.start()
    try:
        yield
    finally:
        for each in patches:
            each.stop()
