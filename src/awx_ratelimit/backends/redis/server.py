"""One server: how connections to it are opened, and what its errors mean to who runs it."""

import re
from typing import Any, ClassVar, NamedTuple

from redis import exceptions

from awx_ratelimit.backends.redis.transport import Endpoint
from awx_ratelimit.errors import BackendMisconfigured, BackendUnavailable
from awx_ratelimit.runtime.deadlines import Deadline

_OLDEST = (7, 0)
_TOO_OLD = f"{_OLDEST[0]}.{_OLDEST[1]} or newer is needed"
#: What errors are or say, and what is to be done. A script's own have no class.
_REMEDIES: tuple[tuple[type[Exception] | str | re.Pattern[str], str], ...] = (
    (exceptions.AuthenticationError, "check user and password"),
    (exceptions.NoPermissionError, "allow its user {needed}"),
    ("The user executing the script can't", "allow its user {needed}"),
    (exceptions.ReadOnlyError, "it is a read-only replica: name its primary"),
    ("DB index is out of range", "it has no database of that number"),
    ("certificate verify failed", "its certificate is not trusted: name its authority with ?ssl_ca_certs="),
    (
        re.compile(r"(unknown|unsupported)\b.*\bhello\b|NOPROTO|unsupported protocol", re.IGNORECASE),
        f"it does not know HELLO. If it is a proxy, add ?protocol=2 to the URL; if a server, it is too old: {_TOO_OLD}",
    ),
    ("unknown command", "it is too old: " + _TOO_OLD),
    # The first line of each script says which rules it runs by.
    ("unexpected symbol near '#'", "it is too old: " + _TOO_OLD),
)
#: How a server of another mode than was meant is to be named.
_NAMED = {
    "standalone": "it is a server of its own: name it as redis://",
    "cluster": "it is one of a cluster: name it as redis+cluster://",
    "sentinel": "it is a sentinel: name it, and the service that it watches, as redis+sentinel://",
}


class Redirect(NamedTuple):
    """An answer: the call was not run. `server` is asked next; `error` says so where there is no time for that."""

    server: "Server"
    error: BackendUnavailable


class Server:
    """A server that is reached by `connections`. A call that has no answer within `timeout_s` has none."""

    mode: ClassVar[str] = "standalone"
    #: Whether each call on a connection to it comes after ASKING.
    asking: bool = False

    def __init__(self, endpoint: Endpoint, *, timeout_s: float, needed: str) -> None:
        self.endpoint = endpoint
        self.timeout_s = timeout_s
        #: How it is called in errors.
        self.name = endpoint.place
        #: The server that has what is asked for here.
        self.home: Server = self
        #: How many calls with claims it has answered. A guard counts calls, and sees claims.
        self.answered_calls = 0
        self._needed = needed

    def connection(self, deadline: Deadline) -> Any:
        """A new connection for threads, not yet opened: nothing on it waits beyond `deadline`."""
        return self.endpoint.new(deadline)

    async def async_connection(self) -> Any:
        """A new connection for the running event loop, not yet opened."""
        return self.endpoint.new_in_loop()

    def welcome(self, connection: Any, greeting: Any) -> None:
        """Take a connection that was just opened. `greeting` is what HELLO was answered.

        Raises BackendMisconfigured where the server is too old, or is none of the kind that was named.
        """
        del connection
        greeted = texts(greeting)
        numbers = re.match(r"(\d+)\.(\d+)", greeted.get("version", ""))
        if numbers is not None and tuple(map(int, numbers.groups())) < _OLDEST:
            raise BackendMisconfigured(f"redis at {self.name} is version {greeted['version']}; {_TOO_OLD}")
        mode = greeted.get("mode", self.mode)
        if mode != self.mode and mode in _NAMED:
            raise BackendMisconfigured(f"redis at {self.name}: {_NAMED[mode]}")

    def refused(self, error: exceptions.ResponseError) -> "BackendUnavailable | Redirect":
        """What an error means that a call was answered with."""
        return self.unavailable(error)

    def unavailable(self, error: BaseException) -> BackendUnavailable:
        """What it means that a call had no answer."""
        return self.explained(error)

    def explained(self, error: BaseException) -> BackendUnavailable:
        """What to tell who runs it."""
        if isinstance(error, BackendUnavailable):
            return error
        said = str(error) or type(error).__name__
        if isinstance(error, TimeoutError | exceptions.TimeoutError):
            return BackendUnavailable(f"redis at {self.name} did not answer within {self.timeout_s * 1000:g} ms")
        if isinstance(error, exceptions.OutOfMemoryError):
            return BackendUnavailable(f"redis at {self.name} has reached its maxmemory: allow it more ({said})")
        for sign, remedy in _REMEDIES:
            if _is_meant(sign, error, said):
                return BackendMisconfigured(f"redis at {self.name}: {remedy.format(needed=self._needed)} ({said})")
        return BackendUnavailable(f"redis at {self.name}: {said}")


def _is_meant(sign: type[Exception] | str | re.Pattern[str], error: BaseException, said: str) -> bool:
    if isinstance(sign, str):
        return sign in said
    return bool(sign.search(said)) if isinstance(sign, re.Pattern) else isinstance(error, sign)


def texts(greeting: Any) -> dict[str, str]:
    """The texts in the answer to HELLO."""
    if isinstance(greeting, list):
        greeting = dict(zip(greeting[::2], greeting[1::2], strict=False))
    known = greeting if isinstance(greeting, dict) else {}
    return {name.decode(): text.decode() for name, text in known.items() if isinstance(text, bytes)}
