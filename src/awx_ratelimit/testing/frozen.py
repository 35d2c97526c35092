"""For the tests of an app that is limited: time that stands still, and limits that begin anew with each test."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from awx_ratelimit.backends.base import NonBlocking
from awx_ratelimit.backends.memory.backend import MemoryBackend
from awx_ratelimit.http.gate import AsyncGate
from awx_ratelimit.http.gate_sync import Gate
from awx_ratelimit.testing.clock import ManualClock

_START_MS = 1_700_006_400_000  # a midnight in UTC, so that calendar rates have their whole day


@contextmanager
def frozen(gate: Gate | AsyncGate) -> Iterator[ManualClock]:
    """Limits of `gate` that owe nothing and whose time is the clock that this gives, for the length of a block.

    Raises TypeError for a gate whose backend is not a MemoryBackend.
    """
    backend: Any = gate._limiter.backend
    memory = backend.backend if isinstance(backend, NonBlocking) else backend
    if type(memory) is not MemoryBackend:
        raise TypeError(f"frozen takes a gate over a MemoryBackend, not over {type(memory).__name__}")
    clock = ManualClock(_START_MS)
    memory.begin(clock)
    try:
        yield clock
    finally:
        memory.begin()


@pytest.fixture
def rate_limits(rate_limited: Gate | AsyncGate) -> Iterator[ManualClock]:
    """The clock of the app's limits, which begin anew with each test.

    Import it in a conftest.py beside a fixture `rate_limited` that returns the app's gate.
    """
    with frozen(rate_limited) as clock:
        yield clock
