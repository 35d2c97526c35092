"""Limits shared through PostgreSQL by any number of processes and machines: one function call decides each claim.

Generated from `backend.py` by tools/generate_sync.py: change that module and run the program again.
"""

from typing import Self

from awx_ratelimit.runtime.extras import check_versions, missing_package

try:
    check_versions("the PostgreSQL backend", "postgres", "psycopg")
    from awx_ratelimit.backends.postgres.dialect import POSTGRES
    from awx_ratelimit.backends.postgres.doctor import self_test
    from awx_ratelimit.backends.postgres.routing import route_to
except ImportError as error:
    if (error.name or "psycopg").partition(".")[0] != "psycopg":
        raise
    raise missing_package("the PostgreSQL backend needs", error, "postgres", install="psycopg") from error
from awx_ratelimit.backends.remote.limits_sync import RemoteLimits
from awx_ratelimit.backends.remote.routing import Route
from awx_ratelimit.runtime.clock import Clock


class PostgresBackend(RemoteLimits):
    """Decides in a database, in at most one round trip per claim, for threads.

    `route` says how to reach the server. Processes share limits if they share the `schema` and the `prefix` of the
    tables. `clock` is an object with ``now_ms() -> int``, for tests; None uses the server's time.
    """

    def __init__(
        self, route: Route, *, schema: str = "awx", prefix: str = "limits", clock: Clock | None = None
    ) -> None:
        super().__init__(POSTGRES, route, f"{schema}.{prefix}", clock)

    @classmethod
    def from_url(
        cls, url: str, *, schema: str = "awx", prefix: str = "limits", timeout_ms: int = 50, clock: Clock | None = None
    ) -> Self:
        """Connect to the database at `url`, such as ``postgresql://user@host/database``, with the options of libpq.

        Creates tables and functions if they are missing or old. A call fails after `timeout_ms`. Raises ValueError for
        a wrong URL. Raises BackendMisconfigured if the server is too old, is a standby, or rejects the user. If the
        server cannot be reached, this logs a warning, because it may start later.
        """
        route = route_to(url, timeout_ms=timeout_ms, schema=schema, prefix=prefix)
        self_test(route, f"{schema}.{prefix}")
        return cls(route, schema=schema, prefix=prefix, clock=clock)
