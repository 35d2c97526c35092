"""Where a server is, and what its errors mean to who runs it."""

import re
from typing import Any

from redis import exceptions

from awx_ratelimit.backends._redis_connections import Connections
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
    ("certificate verify failed", "its certificate is not trusted: name its authority with ?ssl_ca_certs="),
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
        connections = Connections(url, timeout_s)
        #: A new connection for threads, and one for the running event loop, not yet opened.
        self.connection, self.async_connection = connections.new, connections.new_in_loop
        #: How it is called in errors.
        self.name = connections.place
        self._needed = _NEEDED.format(prefix=prefix) + (" +select" if connections.database else "")

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
