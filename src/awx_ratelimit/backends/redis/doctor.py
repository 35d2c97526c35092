"""Whether servers are set up for limits: asked of the servers themselves, in a few calls that leave nothing behind."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from statistics import quantiles
from typing import Any, Final

from redis.exceptions import RedisError, ResponseError

from awx_ratelimit.backends.diagnostics import Finding
from awx_ratelimit.backends.redis.codec import Codec
from awx_ratelimit.backends.redis.connection import answered
from awx_ratelimit.backends.redis.fan_out import FanOut
from awx_ratelimit.backends.redis.routing import Route, route
from awx_ratelimit.backends.redis.self_test import trials
from awx_ratelimit.backends.redis.server import Server
from awx_ratelimit.errors import BackendUnavailable
from awx_ratelimit.runtime.deadlines import Deadline

_PINGS: Final = 50
#: Half of what a decision waits for an answer by default.
_SLOW_MS: Final = 25.0
_SKEW_MS: Final = 1_000
_OLDEST: Final = 7
Info = dict[str, str]


def examine(url: str, *, prefix: str = "awx", timeout_ms: int = 2_000) -> list[Finding]:
    """What there is to know of each server at `url`. Raises ValueError for a URL that is wrong."""
    way = route(url, timeout_ms=timeout_ms, prefix=prefix)
    codec = Codec(prefix, os.urandom(16))
    try:
        way.found(codec.key(""))
    except BackendUnavailable as error:
        return [_unreachable(error)]
    findings = [finding for server in way.servers() for finding in _examined(server)]
    if any(finding.what == "reachable" and finding.mark == "wrong" for finding in findings):
        return findings
    return [*findings, _permissions(way, codec, prefix)]


def _examined(server: Server) -> list[Finding]:
    connection: Any = None
    try:
        connection = server.connection(Deadline(time.monotonic() + server.timeout_s))
        connection.connect()
        return [*_findings(server, _asker(connection))]
    except (RedisError, OSError) as error:
        return [_unreachable(server.unavailable(error))]
    except BackendUnavailable as error:
        return [_unreachable(error)]
    finally:
        if connection is not None:
            with suppress(RedisError, OSError):
                connection.disconnect()


def _unreachable(error: BackendUnavailable) -> Finding:
    return Finding("reachable", "wrong", str(error), "start it, or name another: host, port, user, password, TLS")


def _asker(connection: Any) -> Callable[..., Any]:
    def ask(*words: str) -> Any:
        connection.send_command(*words)
        return connection.read_response()

    return ask


def _findings(server: Server, ask: Callable[..., Any]) -> Iterator[Finding]:
    yield Finding("reachable", "ok", f"redis at {server.name}")
    info = _info(ask)
    if not info:
        yield Finding("settings", "warning", "its user may not ask for INFO", "allow +info, for this examination alone")
    else:
        yield _version(info)
        yield _role(info)
        yield _cluster(info, server)
        yield _memory(info)
    for what, examined in (("latency", _latency), ("clock", _clock)):
        try:
            yield examined(ask)
        except ResponseError as error:
            yield Finding(
                what, "warning", f"it cannot be asked: {error}", "allow +ping and +time: scripts need them too"
            )


def _info(ask: Callable[..., Any]) -> Info:
    try:
        told: bytes = ask("INFO")
    except ResponseError:
        return {}
    lines = (line.partition(":") for line in told.decode(errors="replace").splitlines())
    return {name: value for name, sign, value in lines if sign}


def _version(info: Info) -> Finding:
    valkey = info.get("valkey_version")
    version = info.get("redis_version", "0")
    name = f"valkey {valkey}" if valkey else f"redis {version}"
    if int(version.partition(".")[0] or 0) < _OLDEST:
        return Finding("version", "wrong", name, "7.0 or newer is needed")
    return Finding("version", "ok", name)


def _role(info: Info) -> Finding:
    if info.get("role") == "slave":
        primary = f"{info.get('master_host')}:{info.get('master_port')}"
        return Finding("role", "wrong", "it is a read-only replica", f"name its primary, {primary}")
    return Finding("role", "ok", "it is a primary")


def _cluster(info: Info, server: Server) -> Finding:
    if info.get("cluster_enabled") != "1":
        return Finding("cluster", "ok", "it is no cluster")
    said = "it is a cluster; keys have a tag for each subject"
    if server.mode != "cluster":
        return Finding("cluster", "wrong", said, "name it as redis+cluster://")
    return Finding("cluster", "ok", said)


def _memory(info: Info) -> Finding:
    policy, most = info.get("maxmemory_policy", "noeviction"), int(info.get("maxmemory", "0"))
    said = f"maxmemory {info.get('maxmemory_human', most)}, {policy}; {info.get('used_memory_human', '?')} in use"
    if most and policy != "noeviction":
        remedy = "CONFIG SET maxmemory-policy noeviction: whoever's usage is evicted has an unused budget again"
        return Finding("memory", "warning", said, remedy)
    if most and int(info.get("used_memory", "0")) > 0.9 * most:
        return Finding("memory", "warning", said, "allow it more: a full server decides nothing")
    return Finding("memory", "ok", said)


def _latency(ask: Callable[..., Any]) -> Finding:
    times_ms = []
    for _ in range(_PINGS):
        begin_ns = time.perf_counter_ns()
        ask("PING")
        times_ms.append((time.perf_counter_ns() - begin_ns) / 1e6)
    cuts = quantiles(times_ms, n=100)
    said = f"p50 {cuts[49]:.2f} ms, p99 {cuts[98]:.2f} ms of {_PINGS} round trips"
    if cuts[98] > _SLOW_MS:
        return Finding("latency", "warning", said, "move it nearer, or give ?budget_ms= more than twice the p99")
    return Finding("latency", "ok", said)


def _clock(ask: Callable[..., Any]) -> Finding:
    before_ms = time.time_ns() / 1e6
    seconds, us = ask("TIME")
    off_ms = int(seconds) * 1_000 + int(us) / 1_000 - (before_ms + time.time_ns() / 1e6) / 2
    said = f"its clock is {abs(off_ms):.0f} ms {'ahead of' if off_ms > 0 else 'behind'} this machine's"
    if abs(off_ms) > _SKEW_MS:
        return Finding("clock", "warning", said, "run NTP on both: limits follow the server's clock, logs this one's")
    return Finding("clock", "ok", said)


def _permissions(way: Route, codec: Codec, prefix: str) -> Finding:
    """On each server a claim is charged and forgotten, as a user's would be."""
    links = FanOut(way)
    try:
        for answer in links.run([call for _, call in trials(way, codec, None)]):
            answered(answer)
    except BackendUnavailable as error:
        return Finding("scripts", "wrong", str(error), "see there")
    finally:
        links.close()
    return Finding("scripts", "ok", f"a claim was decided under the prefix {prefix!r}")
