"""Where a server is and how it is spoken to; and what its errors mean to who runs it.

The client's defaults are dangerous here: it would retry a call that may have been decided, and wait for seconds.
"""

from typing import Any
from urllib.parse import urlsplit

from redis import exceptions
from redis.asyncio.connection import ConnectionPool as AsyncConnectionPool
from redis.backoff import NoBackoff
from redis.connection import ConnectionPool
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from awx_ratelimit.errors import BackendMisconfigured, BackendUnavailable

#: What users write, and what the client calls it.
_SCHEMES = {
    "redis": "redis",
    "rediss": "rediss",
    "valkey": "redis",
    "valkeys": "rediss",
    "redis+unix": "unix",
    "unix": "unix",
}
_OLDEST = (7, 0)
_STEPS = 6
_NEEDED = "~{prefix}:* +eval +evalsha +time +get +set +del"
#: What the errors of a server begin with, or say inside a script, and what is to be done.
_REMEDIES = (
    (("WRONGPASS", "NOAUTH", "invalid username-password", "Authentication required"), "check user and password"),
    (("NOPERM", "can't run this command", "No permissions"), "allow its user " + _NEEDED),
    (("READONLY",), "it is a read-only replica: name its primary"),
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
        self._prefix = prefix
        settings: dict[str, Any] = {
            "socket_connect_timeout": timeout_s,
            "retry": Retry(NoBackoff(), 0),
            "retry_on_error": [],
            "driver_info": None,
            "maint_notifications_config": MaintNotificationsConfig(enabled=False),
            "decode_responses": False,
        }
        client_url = _client_url(url)
        try:
            self._pool = ConnectionPool.from_url(client_url, **settings, socket_timeout=timeout_s)
            # The whole call has one deadline there, and each timeout of the client costs a task.
            self._async_pool = AsyncConnectionPool.from_url(client_url, **settings, socket_timeout=None)
            # Made and not opened: what the client does not know of the query, it says now.
            self.connection()
        except (ValueError, TypeError) as error:
            raise ValueError(f"redis URL: {error}") from error
        known = self._pool.connection_kwargs
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
        version = greeting.get(b"version") if isinstance(greeting, dict) else None
        if version is not None and tuple(map(int, version.split(b".")[:2])) < _OLDEST:
            raise BackendMisconfigured(
                f"redis at {self.name} is version {version.decode()}; {_OLDEST[0]}.{_OLDEST[1]} or newer is needed"
            )

    def unavailable(self, error: BaseException) -> BackendUnavailable:
        """What to tell who runs it."""
        if isinstance(error, BackendUnavailable):
            return error
        said = str(error) or type(error).__name__
        if isinstance(error, TimeoutError | exceptions.TimeoutError):
            return BackendUnavailable(f"redis at {self.name} did not answer within {self.timeout_s * 1000:g} ms")
        for words, remedy in _REMEDIES:
            if any(word in said for word in words):
                return BackendMisconfigured(f"redis at {self.name}: {remedy.format(prefix=self._prefix)} ({said})")
        return BackendUnavailable(f"redis at {self.name}: {said}")


def _client_url(url: str) -> str:
    scheme = urlsplit(url).scheme
    if scheme not in _SCHEMES:
        raise ValueError(f"redis URL: its scheme is {scheme!r}; allowed are {', '.join(_SCHEMES)}")
    return _SCHEMES[scheme] + url[len(scheme) :]
