"""Limits shared through Redis by any number of processes and machines: one script call decides each claim atomically.

Generated from `backend.py` by tools/generate_sync.py: change that module and run the program again.
"""

from typing import Self

from awx_ratelimit.runtime.extras import check_versions, missing_package

try:
    check_versions("the Redis backend", "redis", "redis", "hiredis")
    from awx_ratelimit.backends.redis.dialect import REDIS
    from awx_ratelimit.backends.redis.doctor import self_test
    from awx_ratelimit.backends.redis.routing import route_to
except ModuleNotFoundError as error:
    raise missing_package("the Redis backend needs", error, "redis") from error
from awx_ratelimit.backends.remote.limits_sync import RemoteLimits
from awx_ratelimit.backends.remote.routing import Route
from awx_ratelimit.runtime.clock import Clock


class RedisBackend(RemoteLimits):
    """Decides on a shared server, in at most one round trip per claim, for threads.

    `route` says how to reach the server. `prefix` begins every key: processes share limits if they share the prefix.
    `clock` is an object with ``now_ms() -> int``, for tests; None uses the server's time.
    """

    def __init__(self, route: Route, *, prefix: str = "awx", clock: Clock | None = None) -> None:
        super().__init__(REDIS, route, prefix, clock)

    @classmethod
    def from_url(cls, url: str, *, prefix: str = "awx", timeout_ms: int = 50, clock: Clock | None = None) -> Self:
        """Connect to the server at `url`.

        - ``redis://``, ``rediss://`` (TLS), ``redis+unix://``, ``valkey://``: one server.
        - ``redis+sentinel://host,host/service``: the current primary of a service that sentinels watch.
        - ``redis+cluster://host,host``: a cluster, in which each node decides for its own keys.

        A call fails after `timeout_ms`. Raises ValueError for a wrong URL. Raises BackendMisconfigured if the server is
        too old, is a replica, or rejects the user or the scripts. If the server cannot be reached, this logs a warning,
        because it may start later.
        """
        route = route_to(url, timeout_ms=timeout_ms, prefix=prefix)
        self_test(route, prefix)
        return cls(route, prefix=prefix, clock=clock)
