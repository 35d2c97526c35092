"""Whether servers can decide at all: they are asked to, as they would be by a user."""

import asyncio
import logging
import os
from contextlib import suppress

from awx_ratelimit.backends.redis.codec import Call, Codec
from awx_ratelimit.backends.redis.connection import answered
from awx_ratelimit.backends.redis.fan_out import FanOut
from awx_ratelimit.backends.redis.routing import Route
from awx_ratelimit.backends.redis.server import Server
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.errors import BackendMisconfigured, BackendUnavailable

_log = logging.getLogger("awx_ratelimit")
_PLAN = Plan.of("trial", per_second=1)
#: So many subjects are tried for each server until one is on it: of a hundred servers alike, fewer than one is missed.
_TRIES = 8


def probe(route: Route, prefix: str) -> None:
    """Charge a claim on each server and forget it, as a user would: whether they can decide at all.

    Raises BackendMisconfigured where one cannot as it is set up. One that cannot be reached is a warning. Within a
    running event loop, which must not be blocked, nothing is asked.
    """
    with suppress(RuntimeError):
        asyncio.get_running_loop()
        return
    codec, links = Codec(prefix, os.urandom(16)), FanOut(route)
    try:
        route.found(codec.key(""))
        for answer in links.run([call for _, call in trials(route, codec, None)]):
            answered(answer)
    except BackendMisconfigured:
        raise
    except BackendUnavailable as error:
        _log.warning("no decision yet: %s", error)
    finally:
        links.close()


def trials(route: Route, codec: Codec, now_ms: int | None) -> list[tuple[str, Call]]:
    """On each server charge a claim of a subject that nobody else has, and forget it: subjects and calls."""
    calls: list[tuple[str, Call]] = []
    tried: set[Server | None] = set()
    servers = route.servers()
    for _ in range(_TRIES * len(servers) or 1):
        asked = (f"trial {codec.new_lease_id()}", _PLAN, 1, codec.new_lease_id())
        server = route.server(codec.key(asked[0]))
        if server not in tried:
            tried.add(server)
            calls += [(asked[0], codec.acquire([asked], (), now_ms)), (asked[0], codec.reset(asked[0], now_ms))]
        if len(tried) == len(servers):
            break
    return calls
