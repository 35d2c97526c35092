"""The primary of a service that sentinels watch.

Each new connection goes to the server that the sentinels name at that moment. A connection is closed when its server
turns out not to be the primary any more, so the next one finds the new primary. A sentinel that does not answer costs
its share of the timeout. The sentinel that answered last is asked first.
"""

import time
from contextlib import closing
from typing import Any

from redis.exceptions import AuthenticationError, ReadOnlyError, RedisError, ResponseError

from awx_ratelimit.backends.redis.endpoint import Endpoint
from awx_ratelimit.backends.redis.server import Server, text_fields
from awx_ratelimit.backends.redis.task_transport import TaskTransport, async_open_transport
from awx_ratelimit.backends.redis.thread_transport import ThreadTransport, open_transport
from awx_ratelimit.backends.redis.tls_probe import wrong_scheme
from awx_ratelimit.backends.redis.url import Address
from awx_ratelimit.errors import BackendMisconfigured, BackendUnavailable
from awx_ratelimit.runtime.deadlines import Deadline, TaskDeadline

_QUERY = "SENTINEL", "MASTERS"


class _Search:
    """What the sentinels have said so far about `service`."""

    def __init__(self, service: str) -> None:
        self._service = service
        self.knows_service = False
        self.errors: list[Exception] = []

    def primary(self, reply: Any) -> tuple[str, int] | None:
        """Host and port of the primary by the reply to the query; None if it has none that is up."""
        for fields in map(text_fields, reply if isinstance(reply, list) else ()):
            if fields.get("name") != self._service:
                continue
            self.knows_service = True
            flags, port = {*fields.get("flags", "").split(",")}, fields.get("port", "")
            if "master" in flags and not flags & {"s_down", "o_down"} and port.isdecimal():
                return fields.get("ip", ""), int(port)
        return None


class SentinelPrimary(Server):
    """See the module. `address` names the service and its sentinels."""

    def __init__(self, address: Address, endpoint: Endpoint, *, timeout_s: float, permissions: str) -> None:
        super().__init__(endpoint, timeout_s=timeout_s, permissions=permissions)
        self._service = address.service
        share_s = timeout_s / (len(address.seeds) + 1)
        self._sentinels = [
            endpoint.at(*seed, share_s, database=0, **address.sentinel_options) for seed in address.seeds
        ]
        self._sentinel_names = ", ".join(sentinel.address for sentinel in self._sentinels)
        self.name = f"{self._service} of the sentinels {self._sentinel_names}"

    def open(self, deadline: Deadline) -> ThreadTransport:
        """See Server. Waits for the sentinels."""
        return open_transport(self._find(), deadline)

    def _find(self) -> Endpoint:
        search = _Search(self._service)
        for sentinel in self._sentinels:
            try:
                with closing(open_transport(sentinel, Deadline(time.monotonic() + sentinel.timeout_s))) as connection:
                    found = search.primary(connection.ask(*_QUERY))
            except (RedisError, OSError) as error:
                self._note(search, error)
            else:
                if found is not None:
                    return self._primary(sentinel, *found)
        raise self._not_found(search)

    async def async_open(self, deadline: TaskDeadline) -> TaskTransport:
        """See Server. Waits for the sentinels."""
        return await async_open_transport(await self._async_find(), deadline)

    async def _async_find(self) -> Endpoint:
        search = _Search(self._service)
        for sentinel in self._sentinels:
            try:
                with TaskDeadline(sentinel.timeout_s) as share:
                    connection = await async_open_transport(sentinel, share)
                    try:
                        found = search.primary(await connection.ask(*_QUERY))
                    finally:
                        connection.drop()
            except (RedisError, OSError) as error:
                self._note(search, error)
            else:
                if found is not None:
                    return self._primary(sentinel, *found)
        raise self._not_found(search)

    def _prefer(self, first: Endpoint) -> None:
        """Ask this sentinel first next time: it named the primary."""
        self._sentinels = sorted(self._sentinels, key=lambda sentinel: sentinel is not first)

    def _primary(self, sentinel: Endpoint, host: str, port: int) -> Endpoint:
        """The primary that `sentinel` has named."""
        self._prefer(sentinel)
        endpoint = self.endpoint.at(host, port, self.timeout_s)
        self.name = f"{endpoint.address}, the primary of {self._service},"
        return endpoint

    def _note(self, search: _Search, error: Exception) -> None:
        search.errors.append(error)
        if isinstance(error, ResponseError):
            # Another sentinel would refuse too. The refusal may repeat a password.
            raise self._not_found(search) from None

    def _not_found(self, search: _Search) -> BackendUnavailable:
        """The error for the operator if no sentinel names a primary."""
        sentinels = f"redis sentinels {self._sentinel_names}"
        if search.knows_service:
            return BackendUnavailable(f"{sentinels}: the primary of {self._service} is down and has no successor yet")
        if any(isinstance(error, AuthenticationError) for error in search.errors):
            return BackendMisconfigured(
                f"{sentinels}: they refuse the login; check ?sentinel_username= and &sentinel_password="
            )
        for error in search.errors:
            if isinstance(error, ResponseError):
                is_server = "unknown command 'SENTINEL'" in str(error)
                remedy = "name a sentinel, whose port is 26379 by default" if is_server else "allow its user +sentinel"
                return BackendMisconfigured(f"{sentinels}: the query failed ({str(error).strip()}); {remedy}")
        if not search.errors:
            return BackendMisconfigured(
                f"{sentinels}: they watch no service {self._service!r}; correct its name in the URL"
            )
        return BackendUnavailable(f"{sentinels}: none that watches {self._service} can be reached")

    def check_greeting(self, greeting: Any) -> None:
        """See Server. Raises BackendUnavailable if the server is not a primary."""
        super().check_greeting(greeting)
        if text_fields(greeting).get("role", "master") != "master":
            self._prefer_another()
            raise BackendUnavailable(f"redis at {self.name} is no longer, or not yet, a primary")

    def on_failure(self, error: BaseException) -> BackendUnavailable:
        if not isinstance(error, BackendUnavailable):
            self._prefer_another()
        return super().on_failure(error)

    def wrong_scheme(self) -> str:
        """See Server. The sentinels are asked first."""
        return wrong_scheme(self._sentinels[0])

    def explain(self, error: BaseException) -> BackendUnavailable:
        """See Server. A read-only replica is a former primary."""
        if isinstance(error, ReadOnlyError):
            return BackendUnavailable(f"redis at {self.name} is no longer a primary: {error}")
        return super().explain(error)

    def _prefer_another(self) -> None:
        """Ask the sentinel last that named a wrong primary."""
        first, *others = self._sentinels
        self._sentinels = [*others, first]
