"""Checks that servers are set up for limits, by asking them. The calls leave nothing behind.

`self_test` is the short form that every backend runs when it is made; `examine` is for ``awx-ratelimit doctor``.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any, Final

from redis.exceptions import RedisError, ResponseError

from awx_ratelimit.backends.base import Finding
from awx_ratelimit.backends.redis.codec import Codec
from awx_ratelimit.backends.redis.connection_sync import Connection
from awx_ratelimit.backends.redis.routing import route_to
from awx_ratelimit.backends.redis.scripts import Call
from awx_ratelimit.backends.redis.server import Server
from awx_ratelimit.backends.remote.pending_claims import plain_as_joint
from awx_ratelimit.backends.remote.replies import raise_error
from awx_ratelimit.backends.remote.routing import FanOut, Route
from awx_ratelimit.backends.remote.start_warning import START_IT, warn_of_start
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.errors import BackendMisconfigured, BackendUnavailable
from awx_ratelimit.runtime.deadlines import Deadline

_PINGS: Final = 50
#: Half of the default timeout of a decision.
_MAX_P99_MS: Final = 25.0
_MAX_SKEW_MS: Final = 1_000
_MIN_MAJOR_VERSION: Final = 7
_TEST_PLAN = Plan.of("trial", per_second=2)
#: Random subjects to try per server, until each server has one. Of a hundred equal nodes this misses less than one.
_TRIES_PER_SERVER = 8
Info = dict[str, str]


def self_test(route: Route, prefix: str) -> None:
    """Decide a claim on each server, as a user would, and reset it.

    Raises BackendMisconfigured if a server cannot decide as it is set up. Logs a warning if one cannot be reached.
    Does nothing in a running event loop, because it would block the loop.
    """
    with suppress(RuntimeError):
        asyncio.get_running_loop()
        return
    try:
        _run_self_test(route, Codec(prefix, os.urandom(16)))
    except BackendMisconfigured:
        raise
    except BackendUnavailable as error:
        for server in route.servers():
            if advice := server.wrong_scheme():
                raise BackendMisconfigured(f"redis at {server.name}: {advice}") from error
        warn_of_start(error)


def _run_self_test(route: Route, codec: Codec) -> None:
    fan_out = FanOut(route, Connection)
    try:
        route.find_server(codec.key(""))
        for reply in fan_out.run([call for _, call in self_test_calls(route, codec, None)]):
            raise_error(reply)
    finally:
        fan_out.close()


def self_test_calls(route: Route, codec: Codec, now_ms: int | None) -> list[tuple[str, Call]]:
    """For each server, calls that charge, settle and reset a new subject. Each comes with its subject."""
    calls: list[tuple[str, Call]] = []
    tested: set[Server | None] = set()
    servers = route.servers()
    for _ in range(_TRIES_PER_SERVER * len(servers) or 1):
        claim = (f"trial {codec.new_lease_id()}", _TEST_PLAN, 1, codec.new_lease_id())
        server = route.server(codec.key(claim[0]))
        if server not in tested:
            tested.add(server)
            joint = plain_as_joint(*claim)
            declared = joint._replace(claim=joint.claim._replace(declared=True))
            run = (
                codec.acquire([claim], (), now_ms),
                codec.joint.acquire([declared], (), now_ms, 0),
                # A script that the server does not know yet would run after the claims of its call.
                codec.joint.settle([(claim[0], ())], 0, claim[3], now_ms, ()),
                codec.reset(claim[0], (), now_ms),
            )
            calls += [(claim[0], call) for call in run]
        if len(tested) == len(servers):
            break
    return calls


def examine(url: str, *, prefix: str = "awx", timeout_ms: int = 2_000) -> list[Finding]:
    """Examine each server at `url`. Raises ValueError for a wrong URL."""
    route = route_to(url, timeout_ms=timeout_ms, prefix=prefix)
    codec = Codec(prefix, os.urandom(16))
    try:
        route.find_server(codec.key(""))
    except BackendUnavailable as error:
        return [_unreachable(error)]
    findings = [finding for server in route.servers() for finding in _examine_server(server)]
    if any(finding.what == "reachable" and finding.mark == "wrong" for finding in findings):
        return findings
    try:
        _run_self_test(route, codec)
    except BackendUnavailable as error:
        return [*findings, Finding.of_error("scripts", error)]
    return [*findings, Finding("scripts", "ok", f"a claim was decided under the prefix {prefix!r}")]


def _examine_server(server: Server) -> list[Finding]:
    try:
        with closing(server.open(Deadline(time.monotonic() + server.timeout_s))) as connection:
            return [*_findings(server, connection.ask)]
    except (RedisError, OSError, BackendUnavailable) as error:
        return [_unreachable(server.explain(error), server)]


def _unreachable(error: BackendUnavailable, server: Server | None = None) -> Finding:
    if server is not None and not isinstance(error, BackendMisconfigured) and (advice := server.wrong_scheme()):
        error = BackendMisconfigured(f"redis at {server.name}: {advice}")
    return Finding.of_error("reachable", error, START_IT)


def _findings(server: Server, ask: Callable[..., Any]) -> Iterator[Finding]:
    yield Finding("reachable", "ok", f"redis at {server.name}")
    info = _info(ask)
    if not info:
        yield Finding("settings", "warning", "its user may not run INFO", "allow +info; only this check needs it")
    else:
        yield _version(info)
        yield _role(info)
        yield _cluster(info, server)
        yield _memory(info)
        yield _persistence(info, ask)
    for what, check in (("latency", _latency), ("clock", _clock)):
        try:
            yield check(ask)
        except ResponseError as error:
            yield Finding(what, "warning", f"the check failed: {error}", "allow +ping and +time: scripts need them too")


def _info(ask: Callable[..., Any]) -> Info:
    try:
        text: bytes = ask("INFO")
    except ResponseError:
        return {}
    lines = (line.partition(":") for line in text.decode(errors="replace").splitlines())
    return {name: value for name, sign, value in lines if sign}


def _version(info: Info) -> Finding:
    valkey = info.get("valkey_version")
    version = info.get("redis_version", "0")
    name = f"valkey {valkey}" if valkey else f"redis {version}"
    if int(version.partition(".")[0] or 0) < _MIN_MAJOR_VERSION:
        return Finding("version", "wrong", name, "upgrade it to 7.0 or newer")
    return Finding("version", "ok", name)


def _role(info: Info) -> Finding:
    if info.get("role") == "slave":
        primary = f"{info.get('master_host')}:{info.get('master_port')}"
        return Finding("role", "wrong", "it is a read-only replica", f"name its primary, {primary}")
    return Finding("role", "ok", "it is a primary")


def _cluster(info: Info, server: Server) -> Finding:
    if info.get("cluster_enabled") != "1":
        return Finding("cluster", "ok", "it is not part of a cluster")
    said = "it is a cluster node; keys have one hash tag per subject"
    if server.mode != "cluster":
        return Finding("cluster", "wrong", said, "use redis+cluster:// in the URL")
    return Finding("cluster", "ok", said)


def _memory(info: Info) -> Finding:
    policy, limit = info.get("maxmemory_policy", "noeviction"), int(info.get("maxmemory", "0"))
    said = f"maxmemory {info.get('maxmemory_human', limit)}, {policy}; {info.get('used_memory_human', '?')} in use"
    if limit and policy != "noeviction":
        remedy = "CONFIG SET maxmemory-policy noeviction: a subject whose usage is evicted gets a full budget again"
        return Finding("memory", "warning", said, remedy)
    if limit and int(info.get("used_memory", "0")) > 0.9 * limit:
        return Finding("memory", "warning", said, "raise maxmemory: a full server refuses to decide")
    return Finding("memory", "ok", said)


def _persistence(info: Info, ask: Callable[..., Any]) -> Finding:
    """What a restart forgets. It is for the operator to decide, so it is no warning."""
    if info.get("aof_enabled") == "1":
        return Finding("persistence", "ok", "append-only file: a restart forgets at most the last seconds")
    snapshots = "?"
    # The user need not be allowed to read the configuration, and some providers have removed the command.
    with suppress(ResponseError):
        reply = ask("CONFIG", "GET", "save")
        # The older protocol has no mappings.
        if found := [*reply.values()] if isinstance(reply, dict) else reply[1:]:
            snapshots = found[0].decode()
    said = "snapshots, if any: a restart forgets what was used since the latest one"
    if not snapshots:
        said = "none: a restart forgets all usage, including that of days and months"
    elif snapshots != "?":
        said = f"snapshots (save {snapshots}): a restart forgets what was used since the latest one"
    return Finding("persistence", "ok", f"{said}; with appendonly yes, at most the last seconds")


def _latency(ask: Callable[..., Any]) -> Finding:
    times_ms = []
    for _ in range(_PINGS):
        begin_ns = time.perf_counter_ns()
        ask("PING")
        times_ms.append((time.perf_counter_ns() - begin_ns) / 1e6)
    times_ms.sort()
    p50_ms, p99_ms = times_ms[_PINGS // 2], times_ms[_PINGS * 99 // 100]
    said = f"p50 {p50_ms:.2f} ms, p99 {p99_ms:.2f} ms of {_PINGS} round trips"
    if p99_ms > _MAX_P99_MS:
        return Finding("latency", "warning", said, "move it nearer, or set ?budget_ms= above twice the p99")
    return Finding("latency", "ok", said)


def _clock(ask: Callable[..., Any]) -> Finding:
    before_ms = time.time_ns() / 1e6
    seconds, us = ask("TIME")
    off_ms = int(seconds) * 1_000 + int(us) / 1_000 - (before_ms + time.time_ns() / 1e6) / 2
    said = f"its clock is {abs(off_ms):.0f} ms {'ahead of' if off_ms > 0 else 'behind'} this machine's"
    if abs(off_ms) > _MAX_SKEW_MS:
        return Finding("clock", "warning", said, "run NTP on both: limits use the server's clock, logs this machine's")
    return Finding("clock", "ok", said)
