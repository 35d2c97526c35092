"""Fixtures for the tests of a rate-limited app: a frozen clock, and limits that start unused in each test."""

import inspect
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from awx_ratelimit.backends.host.opening import open_at_start
from awx_ratelimit.backends.memory.backend import MemoryBackend
from awx_ratelimit.backends.resilience.circuit_breaker import CircuitBreakers
from awx_ratelimit.backends.resilience.denial_cache import DenialCache
from awx_ratelimit.backends.resilience.outage_log import OutageLog
from awx_ratelimit.core.hold_times import HoldTimes
from awx_ratelimit.core.validation import type_name
from awx_ratelimit.runtime.clock import Clock
from awx_ratelimit.testing import ManualClock

_START_MS = 1_700_006_400_000  # midnight UTC, so that calendar rates have a whole day left
_NS_IN_MS = 1_000_000


@contextmanager
def frozen(limited: Any) -> Iterator[ManualClock]:
    """Freeze the clock of `limited` for the duration of the block, with limits that start unused; yields the clock.

    `limited` is a gate, a limiter, a middleware, a backend, or an app of Starlette, FastAPI or Flask to which the
    middleware was added: everything that uses the same backend is frozen with it.
    Limits in Redis and in a host's file are not touched: the block uses other keys of the same server, which expire by
    themselves, and another file. Guards forget outages.

    Raises TypeError for a backend that this library does not know, and for an app without the middleware.
    """
    limited = _limited_in(limited)
    gate = getattr(limited, "gate", limited)
    layers = [getattr(gate, "_limiter", gate)]
    while (inner := getattr(layers[-1], "backend", None)) is not None:
        layers.append(inner)
    if _freezer(layers[-1]) is None:
        got = type_name(layers[-1])
        raise TypeError(
            "frozen: expected a gate, a limiter, a middleware, or an app of Starlette, FastAPI or Flask with one, over "
            f"a backend of this library, got {got}; to freeze any app, build its gate yourself, and write frozen(gate)"
        )
    clock = ManualClock(_START_MS)
    with ExitStack() as stack:
        # From the inside, because a guard asks its backend for its servers.
        for layer in reversed(layers):
            freeze = _freezer(layer)
            if freeze is not None:
                stack.enter_context(freeze(layer, clock))
        yield clock


@pytest.fixture
def rate_limits(rate_limited: Any) -> Iterator[ManualClock]:
    """The frozen clock of your app's limits, which start unused in each test.

    Import this fixture in a conftest.py that also defines a fixture `rate_limited`, which returns your app, its gate,
    its limiter or its middleware.
    """
    with frozen(rate_limited) as clock:
        yield clock


def _limited_in(limited: Any) -> Any:
    """The middleware of this library in an app of Starlette or Flask; `limited` if it is something else."""
    layer = getattr(limited, "wsgi_app", None)
    if hasattr(limited, "build_middleware_stack"):
        # Starlette makes its middlewares before the first request.
        if limited.middleware_stack is None:
            limited.middleware_stack = limited.build_middleware_stack()
        layer = limited.middleware_stack
    while layer is not None:
        if hasattr(layer, "gate"):
            return layer
        layer = getattr(layer, "app", None)
    return limited


def _freezer(layer: Any) -> Any:
    """The function that freezes `layer`; None for a limiter and for what only wraps a backend.

    It looks for attributes, because importing the other backends needs Linux or an extra.
    """
    if isinstance(layer, MemoryBackend):
        return _memory
    for attribute, freeze in (
        ("_maintenance", _remote),
        ("_open_table", _host),
        ("_fallback", _guard),
        ("_denials", _denials),
    ):
        if hasattr(layer, attribute):
            return freeze
    return None


@contextmanager
def _memory(backend: MemoryBackend, clock: Clock) -> Iterator[None]:
    before = backend.clock
    backend.begin(clock)
    try:
        yield
    finally:
        backend.begin(before)


@contextmanager
def _remote(backend: Any, clock: Clock) -> Iterator[None]:
    before = {name: getattr(backend, name) for name in ("_options", "_maintenance", "_session", "_channels")}
    route, prefix, _ = backend._options
    # The user of the server may use only keys that begin with the prefix.
    backend._options = (route, f"{prefix}:{secrets.token_hex(4)}", clock)
    backend._start()
    try:
        yield
    finally:
        maintenance, channels = backend._maintenance, backend._channels
        vars(backend).update(before)
        maintenance.close()
        # The channels of an event loop close with the loop.
        if not inspect.iscoroutinefunction(channels.close):
            channels.close()


@contextmanager
def _host(backend: Any, clock: Clock) -> Iterator[None]:
    names = ("_path", "_open_table", "_now_ms", "_hold_times", "_joint", "_session", "_unmeasured")
    before = {name: getattr(backend, name) for name in names}
    open_table = backend._open_table
    with TemporaryDirectory() as folder:
        backend._path = f"{folder}/limits"
        backend._open_table = partial(open_table.func, backend._path, **open_table.keywords)
        backend._now_ms, backend._hold_times = clock.now_ms, HoldTimes()
        backend._joint = type(backend._joint)(backend._now_ms, backend._hold_times)
        backend._start_session()
        open_at_start(backend._session)
        try:
            yield
        finally:
            backend._session.close()
            vars(backend).update(before)


@contextmanager
def _guard(guard: Any, clock: Clock) -> Iterator[None]:
    fallback = guard._fallback
    with _memory(fallback.local, clock):
        _forget_outages(guard)
        try:
            yield
        finally:
            _forget_outages(guard)


def _forget_outages(guard: Any) -> None:
    fallback = guard._fallback
    fallback._breakers = CircuitBreakers(guard.backend)
    fallback._outage_log = OutageLog(fallback._on_outage)
    # As in a forked child: nothing of before is reported to the backend.
    fallback._after_fork()


@contextmanager
def _denials(cache: Any, clock: Clock) -> Iterator[None]:
    before = cache._denials
    cache._denials = DenialCache(lambda: clock.now_ms() * _NS_IN_MS)
    try:
        yield
    finally:
        cache._denials = before
