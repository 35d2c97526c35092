"""Fixtures for the tests of a rate-limited app: a frozen clock, and limits that start unused in each test."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from awx_ratelimit.backends.base import NonBlocking
from awx_ratelimit.backends.memory.backend import MemoryBackend
from awx_ratelimit.http.gate import AsyncGate
from awx_ratelimit.http.gate_sync import Gate
from awx_ratelimit.testing import ManualClock

_START_MS = 1_700_006_400_000  # midnight UTC, so that calendar rates have a whole day left


@contextmanager
def frozen(gate: Gate | AsyncGate) -> Iterator[ManualClock]:
    """Clear the limits of `gate` and freeze its clock for the duration of the block; yields the clock.

    Raises TypeError if the gate's backend is not a MemoryBackend.
    """
    backend: Any = gate._limiter.backend
    memory = backend.backend if isinstance(backend, NonBlocking) else backend
    if type(memory) is not MemoryBackend:
        raise TypeError(f"frozen: expected a gate over a MemoryBackend, got one over {type(memory).__name__}")
    clock = ManualClock(_START_MS)
    memory.begin(clock)
    try:
        yield clock
    finally:
        memory.begin()


@pytest.fixture
def rate_limits(rate_limited: Gate | AsyncGate) -> Iterator[ManualClock]:
    """The frozen clock of your app's limits, which start unused in each test.

    Import this fixture in a conftest.py that also defines a fixture `rate_limited`, which returns your app's gate.
    """
    with frozen(rate_limited) as clock:
        yield clock
