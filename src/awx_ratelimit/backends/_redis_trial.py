"""Whether a server can decide at all: it is asked to, as it would be by a user."""

import asyncio
import logging
import os
from contextlib import suppress

from awx_ratelimit.backends._redis_codec import Call, Codec
from awx_ratelimit.backends._redis_link import Link, answered
from awx_ratelimit.backends._redis_server import Server
from awx_ratelimit.core.plans import Plan
from awx_ratelimit.errors import BackendMisconfigured, BackendUnavailable

_log = logging.getLogger("awx_ratelimit")
_PLAN = Plan.of("trial", per_second=1)


def probe(server: Server, prefix: str) -> None:
    """Charge a claim and forget it, as a user would: whether `server` can decide at all.

    Raises BackendMisconfigured where it cannot as it is set up. One that cannot be reached is a warning. Within a
    running event loop, which must not be blocked, nothing is asked.
    """
    with suppress(RuntimeError):
        asyncio.get_running_loop()
        return
    codec, link = Codec(prefix, os.urandom(16)), Link(server)
    try:
        for answer in link.run(trial(codec, None)):
            answered(answer)
    except BackendMisconfigured:
        raise
    except BackendUnavailable as error:
        _log.warning("no decision yet: %s", error)
    finally:
        link.close()


def trial(codec: Codec, now_ms: int | None) -> list[Call]:
    """Charge a claim of a subject that nobody else has, and forget it."""
    asked = (f"trial {codec.new_lease_id()}", _PLAN, 1, codec.new_lease_id())
    return [codec.acquire([asked], (), now_ms), codec.reset(asked[0], now_ms)]
