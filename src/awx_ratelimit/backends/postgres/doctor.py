"""Checks that a database is set up for limits, by asking it. The calls leave nothing behind.

`self_test` is the short form that every backend runs when it is made; `examine` is for ``awx-ratelimit doctor``.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final

import psycopg

from awx_ratelimit.backends.base import Finding
from awx_ratelimit.backends.postgres.codec import Codec
from awx_ratelimit.backends.postgres.connection import Connection
from awx_ratelimit.backends.postgres.dialect import self_test_calls
from awx_ratelimit.backends.postgres.routing import route_to
from awx_ratelimit.backends.postgres.server import Server
from awx_ratelimit.backends.remote.replies import raise_error
from awx_ratelimit.backends.remote.routing import FanOut, Route
from awx_ratelimit.backends.remote.start_warning import START_IT, warn_of_start
from awx_ratelimit.errors import BackendMisconfigured, BackendUnavailable

_PINGS: Final = 50
#: Half of the default timeout of a decision.
_MAX_P99_MS: Final = 25.0
_MAX_SKEW_MS: Final = 1_000
_MIN_VERSION: Final = 14
#: A migration may take longer than a call.
_SELF_TEST_S: Final = 10.0


def self_test(route: Route, place: str) -> None:
    """Create what is missing, decide a claim as a user would, and reset it.

    Raises BackendMisconfigured if the server cannot decide as it is set up. Logs a warning if it cannot be reached.
    Does nothing in a running event loop, because it would block the loop.
    """
    with suppress(RuntimeError):
        asyncio.get_running_loop()
        return
    try:
        _run_self_test(route, Codec(place, os.urandom(16)), time.monotonic() + max(_SELF_TEST_S, route.timeout_s))
    except BackendMisconfigured:
        raise
    except BackendUnavailable as error:
        warn_of_start(error)


def _run_self_test(route: Route, codec: Codec, until_s: float) -> None:
    fan_out = FanOut(route, Connection)
    try:
        for reply in fan_out.run([call for _, call in self_test_calls(route, codec, None)], until_s):
            raise_error(reply)
    finally:
        fan_out.close()


def examine(url: str, *, schema: str = "awx", prefix: str = "limits", timeout_ms: int = 2_000) -> list[Finding]:
    """Examine the database at `url`. Raises ValueError for a wrong URL."""
    route = route_to(url, timeout_ms=timeout_ms, schema=schema, prefix=prefix)
    (server,) = route.servers()
    try:
        with psycopg.connect(server.conninfo, connect_timeout=2, autocommit=True, prepare_threshold=None) as connection:
            findings = [*_findings(server, lambda text: connection.execute(text).fetchone())]
    except psycopg.Error as error:
        return [Finding.of_error("reachable", server.explain(error), START_IT)]
    place = f"{schema}.{prefix}"
    try:
        _run_self_test(route, Codec(place, os.urandom(16)), time.monotonic() + _SELF_TEST_S)
    except BackendUnavailable as error:
        return [*findings, Finding.of_error("functions", error)]
    return [*findings, Finding("functions", "ok", f"a claim was decided in the tables {place}_*")]


def _findings(server: Server, ask: Callable[[Any], Any]) -> Iterator[Finding]:
    yield Finding("reachable", "ok", f"postgresql at {server.name}")
    yield _version(ask)
    yield _role(ask)
    yield _isolation(ask)
    yield _latency(ask)
    yield _clock(ask)


def _version(ask: Callable[[Any], Any]) -> Finding:
    (text,) = ask("SHOW server_version")
    if int(text.partition(".")[0]) < _MIN_VERSION:
        return Finding("version", "wrong", f"postgresql {text}", f"upgrade it to {_MIN_VERSION} or newer")
    return Finding("version", "ok", f"postgresql {text}")


def _role(ask: Callable[[Any], Any]) -> Finding:
    (is_standby,) = ask("SELECT pg_is_in_recovery()")
    if is_standby:
        return Finding("role", "wrong", "it is a read-only standby", "name its primary")
    return Finding("role", "ok", "it is a primary")


def _isolation(ask: Callable[[Any], Any]) -> Finding:
    (level,) = ask("SHOW default_transaction_isolation")
    if level != "read committed":
        remedy = "ALTER ROLE ... SET default_transaction_isolation = 'read committed' for the user of the limits"
        return Finding("isolation", "warning", f"{level}: calls for one subject are rolled back and sent again", remedy)
    return Finding("isolation", "ok", level)


def _latency(ask: Callable[[Any], Any]) -> Finding:
    times_ms = []
    for _ in range(_PINGS):
        begin_ns = time.perf_counter_ns()
        ask("SELECT 1")
        times_ms.append((time.perf_counter_ns() - begin_ns) / 1e6)
    times_ms.sort()
    p50_ms, p99_ms = times_ms[_PINGS // 2], times_ms[_PINGS * 99 // 100]
    said = f"p50 {p50_ms:.2f} ms, p99 {p99_ms:.2f} ms of {_PINGS} round trips"
    if p99_ms > _MAX_P99_MS:
        return Finding("latency", "warning", said, "move it nearer, or set ?budget_ms= above twice the p99")
    return Finding("latency", "ok", said)


def _clock(ask: Callable[[Any], Any]) -> Finding:
    before_ms = time.time_ns() / 1e6
    (server_ms,) = ask("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::float8")
    off_ms = server_ms - (before_ms + time.time_ns() / 1e6) / 2
    said = f"its clock is {abs(off_ms):.0f} ms {'ahead of' if off_ms > 0 else 'behind'} this machine's"
    if abs(off_ms) > _MAX_SKEW_MS:
        return Finding("clock", "warning", said, "run NTP on both: limits use the server's clock, logs this machine's")
    return Finding("clock", "ok", said)
