"""A server: how to connect to it, and what its errors mean to its operator."""

import re
from typing import Any, ClassVar

from redis import exceptions

from awx_ratelimit.backends.redis.endpoint import Endpoint
from awx_ratelimit.backends.redis.remedies import MIN_VERSION, NEEDS_VERSION, advice_for
from awx_ratelimit.backends.redis.task_transport import TaskTransport, async_open_transport
from awx_ratelimit.backends.redis.thread_transport import ThreadTransport, open_transport
from awx_ratelimit.backends.redis.tls_probe import wrong_scheme
from awx_ratelimit.backends.remote.replies import Redirect
from awx_ratelimit.errors import BackendMisconfigured, BackendUnavailable
from awx_ratelimit.runtime.deadlines import Deadline, TaskDeadline

#: The scheme to use if the server runs in another mode than the URL says.
_USE_SCHEME = {
    "standalone": "it is a standalone server; write redis:// in the URL",
    "cluster": "it is a cluster node; write redis+cluster:// in the URL",
    "sentinel": "it is a sentinel; name it and the service that it watches: redis+sentinel://host:26379/service",
}


class Server:
    """A server at `endpoint`. A call fails if its reply does not arrive within `timeout_s`.

    `permissions` are the ACL rules that its user needs.
    """

    mode: ClassVar[str] = "standalone"
    #: Whether every call needs ASKING before it.
    asking: bool = False

    def __init__(self, endpoint: Endpoint, *, timeout_s: float, permissions: str) -> None:
        self.endpoint = endpoint
        self.timeout_s = timeout_s
        #: The name in error messages.
        self.name = endpoint.address
        #: The server that owns the keys that are asked for here.
        self.home: Server = self
        #: The number of answered calls that carried claims. The circuit breaker counts calls, but it sees claims.
        self.answered_calls = 0
        self._permissions = permissions

    def open(self, deadline: Deadline) -> ThreadTransport:
        """A new connection for threads. Nothing on it waits longer than `deadline`."""
        return open_transport(self.endpoint, deadline)

    async def async_open(self, deadline: TaskDeadline) -> TaskTransport:
        """A new connection for the running event loop, opened within `deadline`."""
        return await async_open_transport(self.endpoint, deadline)

    def check_greeting(self, greeting: Any) -> None:
        """Check the reply to HELLO on a new connection.

        Raises BackendMisconfigured if the server is too old or runs in another mode than the URL says.
        """
        fields = text_fields(greeting)
        numbers = re.match(r"(\d+)\.(\d+)", fields.get("version", ""))
        if numbers is not None and tuple(map(int, numbers.groups())) < MIN_VERSION:
            raise BackendMisconfigured(f"redis at {self.name} is version {fields['version']}; {NEEDS_VERSION}")
        mode = fields.get("mode", self.mode)
        if mode != self.mode and mode in _USE_SCHEME:
            raise BackendMisconfigured(f"redis at {self.name}: {_USE_SCHEME[mode]}")

    def on_refusal(self, error: exceptions.ResponseError) -> "BackendUnavailable | Redirect":
        """What to return for a call that the server refused with `error`."""
        return self.on_failure(error)

    def on_failure(self, error: BaseException) -> BackendUnavailable:
        """The error for a call that got no reply."""
        return self.explain(error)

    def wrong_scheme(self) -> str:
        """What to change in the scheme of the URL if the server does not answer; empty if nothing. May wait."""
        return wrong_scheme(self.endpoint)

    def explain(self, error: BaseException) -> BackendUnavailable:
        """`error` with the name of the server and a remedy for its operator."""
        if isinstance(error, BackendUnavailable):
            return error
        text = str(error).rstrip(".") or type(error).__name__
        if isinstance(error, TimeoutError | exceptions.TimeoutError):
            return BackendUnavailable(f"redis at {self.name} did not answer within {self.timeout_s * 1000:g} ms")
        if isinstance(error, exceptions.OutOfMemoryError):
            return BackendUnavailable(f"redis at {self.name} has reached its maxmemory; raise it ({text})")
        if advice := advice_for(error, text, self.endpoint, self._permissions):
            return BackendMisconfigured(f"redis at {self.name}: {advice}")
        return BackendUnavailable(f"redis at {self.name}: {text}")


def text_fields(reply: Any) -> dict[str, str]:
    """The text fields in a reply that is a map, or a list of names and values."""
    if isinstance(reply, list):
        reply = dict(zip(reply[::2], reply[1::2], strict=False))
    fields = reply if isinstance(reply, dict) else {}
    texts = [(name, text) for name, text in fields.items() if isinstance(name, bytes) and isinstance(text, bytes)]
    return {name.decode(errors="replace"): text.decode(errors="replace") for name, text in texts}
