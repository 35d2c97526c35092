"""Where a server is and how it is spoken to; and what its errors mean to who runs it.

The client's defaults are dangerous here: it would retry a call that may have been decided, and wait for seconds.
"""

import re
from typing import Any

from redis import exceptions
from redis.asyncio.connection import ConnectionPool as AsyncConnectionPool
from redis.backoff import NoBackoff
from redis.connection import ConnectionPool
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from awx_ratelimit.backends._redis_url import client_url
from awx_ratelimit.errors import BackendMisconfigured, BackendUnavailable

_OLDEST = (7, 0)
_STEPS = 6
_NEEDED = "~{prefix}:* +eval +evalsha +time +get +set +del"
_TOO_OLD = f"{_OLDEST[0]}.{_OLDEST[1]} or newer is needed"
#: What errors are or say, and what is to be done. A script's own have no class.
_REMEDIES: tuple[tuple[type[Exception] | str, str], ...] = (
    (exceptions.AuthenticationError, "check user and password"),
    (exceptions.NoPermissionError, "allow its user {needed}"),
    ("The user executing the script can't", "allow its user {needed}"),
    (exceptions.ReadOnlyError, "it is a read-only replica: name its primary"),
    ("DB index is out of range", "it has no database of that number"),
    ("unknown command", "it is too old: " + _TOO_OLD),
)


class Server:
    """One server at `url`. A call that has no answer within `timeout_ms` has none.

    Raises ValueError for an URL that is none of a server's.
    """

    def __init__(self, url: str, *, timeout_ms: int, prefix: str) -> None:
        if timeout_ms.__class__ is not int or timeout_ms < 1:
            raise ValueError(f"timeout_ms is {timeout_ms!r}; allowed is a whole number of at least 1")
        timeout_s = self.timeout_s = timeout_ms / 1000
        #: Longer than any call lasts on a socket, each step of which has a timeout of its own.
        self.patience_s = timeout_s * _STEPS
        settings: dict[str, Any] = {
            "socket_connect_timeout": timeout_s,
            "retry": Retry(NoBackoff(), 0),
            "retry_on_error": [],
            "driver_info": None,
            "maint_notifications_config": MaintNotificationsConfig(enabled=False),
            "decode_responses": False,
        }
        url = client_url(url)
        self._pool = ConnectionPool.from_url(url, **settings, socket_timeout=timeout_s)
        # The whole call has one deadline there, and each timeout of the client costs a task.
        self._async_pool = AsyncConnectionPool.from_url(url, **settings, socket_timeout=None)
        known = self._pool.connection_kwargs
        self._needed = _NEEDED.format(prefix=prefix) + (" +select" if known.get("db") else "")
        #: How it is called in errors: without user and password.
        self.name: str = known.get("path") or f"{known.get('host', 'localhost')}:{known.get('port', 6379)}"

    def connection(self) -> Any:
        """A new connection, not yet opened."""
        return self._pool.make_connection()

    def async_connection(self) -> Any:
        """A new connection for the running event loop, not yet opened."""
        connection: Any = self._async_pool.make_connection()  # type: ignore[no-untyped-call]
        return connection

    def check(self, greeting: Any) -> None:
        """Raise BackendMisconfigured where the answer to HELLO says that the server is too old."""
        if isinstance(greeting, list):
            greeting = dict(zip(greeting[::2], greeting[1::2], strict=False))
        version: bytes = greeting.get(b"version", b"") if isinstance(greeting, dict) else b""
        numbers = re.match(rb"(\d+)\.(\d+)", version)
        if numbers is not None and tuple(map(int, numbers.groups())) < _OLDEST:
            raise BackendMisconfigured(f"redis at {self.name} is version {version.decode()}; {_TOO_OLD}")

    def unavailable(self, error: BaseException) -> BackendUnavailable:
        """What to tell who runs it."""
        if isinstance(error, BackendUnavailable):
            return error
        said = str(error) or type(error).__name__
        if isinstance(error, TimeoutError | exceptions.TimeoutError):
            return BackendUnavailable(f"redis at {self.name} did not answer within {self.timeout_s * 1000:g} ms")
        if isinstance(error, exceptions.OutOfMemoryError):
            return BackendUnavailable(f"redis at {self.name} has reached its maxmemory: allow it more ({said})")
        for sign, remedy in _REMEDIES:
            if sign in said if isinstance(sign, str) else isinstance(error, sign):
                return BackendMisconfigured(f"redis at {self.name}: {remedy.format(needed=self._needed)} ({said})")
        return BackendUnavailable(f"redis at {self.name}: {said}")
