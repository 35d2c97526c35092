"""The primary of a service that sentinels watch.

Each new connection goes to the server that the sentinels name at that moment. A connection is closed when its server
turns out not to be the primary any more, so the next one finds the new primary. A sentinel that does not answer costs
its share of the timeout. The sentinel that answered last is asked first.
"""

import time
from typing import Any

from redis.asyncio.sentinel import MasterNotFoundError as AsyncMasterNotFoundError
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.exceptions import ReadOnlyError, RedisError
from redis.sentinel import MasterNotFoundError, Sentinel

from awx_ratelimit.backends.redis.server import Server, greeting_fields
from awx_ratelimit.backends.redis.transport import Endpoint
from awx_ratelimit.backends.redis.url import Address
from awx_ratelimit.errors import BackendMisconfigured, BackendUnavailable
from awx_ratelimit.runtime.deadlines import Deadline


def _noting_service(kind: Any) -> Any:
    """The search of redis-py, which also notes whether any sentinel knows the service."""

    class Search(kind):  # type: ignore[misc]  # either of two classes
        knows_service = False

        def __init__(self, clients: list[Any]) -> None:
            super().__init__([])
            self.sentinels = clients.copy()

        def check_master_state(self, state: Any, service_name: str) -> Any:
            self.knows_service = True
            return super().check_master_state(state, service_name)

    return Search


_Search, _AsyncSearch = _noting_service(Sentinel), _noting_service(AsyncSentinel)


class SentinelPrimary(Server):
    """See the module. `address` names the service and its sentinels."""

    def __init__(self, address: Address, endpoint: Endpoint, *, timeout_s: float, permissions: str) -> None:
        super().__init__(endpoint, timeout_s=timeout_s, permissions=permissions)
        self._service = address.service
        share_s = timeout_s / (len(address.seeds) + 1)
        self._sentinels = [endpoint.at(*seed, share_s, db=0, **address.sentinel_options) for seed in address.seeds]
        self._sentinel_names = ", ".join(sentinel.address for sentinel in self._sentinels)
        self.name = f"{self._service} of the sentinels {self._sentinel_names}"

    def connection(self, deadline: Deadline) -> Any:
        """See Server. Waits for the sentinels."""
        until_s, sentinels = time.monotonic() + self.timeout_s, self._sentinels
        clients = [sentinel.client() for sentinel in sentinels]
        search = _Search(clients)
        try:
            host, port = search.discover_master(self._service)
        except RedisError as error:
            raise self._not_found(error, knows_service=search.knows_service) from None
        finally:
            search.close()
        self._prefer(sentinels[clients.index(search.sentinels[0])])
        return self._primary(host, port, until_s).connection(deadline)

    async def async_connection(self) -> Any:
        """See Server. Waits for the sentinels."""
        until_s, sentinels = time.monotonic() + self.timeout_s, self._sentinels
        clients = [sentinel.async_client() for sentinel in sentinels]
        search = _AsyncSearch(clients)
        try:
            host, port = await search.discover_master(self._service)
        except RedisError as error:
            raise self._not_found(error, knows_service=search.knows_service) from None
        finally:
            await search.aclose()
        self._prefer(sentinels[clients.index(search.sentinels[0])])
        return self._primary(host, port, until_s).async_connection()

    def _prefer(self, first: Endpoint) -> None:
        """Ask this sentinel first next time: it named the primary."""
        self._sentinels = sorted(self._sentinels, key=lambda sentinel: sentinel is not first)

    def _primary(self, host: str, port: int, until_s: float) -> Endpoint:
        """The primary, to be connected to in the time left."""
        left_s = max(until_s - time.monotonic(), self.timeout_s / 10)
        endpoint = self.endpoint.at(host, port, left_s)
        self.name = f"{endpoint.address}, the primary of {self._service},"
        return endpoint

    def _not_found(self, error: RedisError, *, knows_service: bool) -> BackendUnavailable:
        """The error for the operator if no sentinel names a primary."""
        sentinels, text = f"redis sentinels {self._sentinel_names}", str(error)
        if knows_service:
            return BackendUnavailable(f"{sentinels}: the primary of {self._service} is down and has no successor yet")
        if "AuthenticationError" in text:
            return BackendMisconfigured(f"{sentinels}: check ?sentinel_username= and &sentinel_password=")
        if not isinstance(error, MasterNotFoundError | AsyncMasterNotFoundError):
            return BackendMisconfigured(f"{sentinels}: the query failed ({text})")
        if " : " not in text:
            return BackendMisconfigured(f"{sentinels}: they watch no service {self._service!r}")
        # Do not show `text`: it repeats all settings of the client.
        return BackendUnavailable(f"{sentinels}: none that watches {self._service} can be reached")

    def check_greeting(self, greeting: Any) -> None:
        """See Server. Raises BackendUnavailable if the server is not a primary."""
        super().check_greeting(greeting)
        if greeting_fields(greeting).get("role", "master") != "master":
            self._prefer_another()
            raise BackendUnavailable(f"redis at {self.name} is no longer, or not yet, a primary")

    def on_failure(self, error: BaseException) -> BackendUnavailable:
        if not isinstance(error, BackendUnavailable):
            self._prefer_another()
        return super().on_failure(error)

    def explain(self, error: BaseException) -> BackendUnavailable:
        """See Server. A read-only replica is a former primary."""
        if isinstance(error, ReadOnlyError):
            return BackendUnavailable(f"redis at {self.name} is no longer a primary: {error}")
        return super().explain(error)

    def _prefer_another(self) -> None:
        """Ask the sentinel last that named a wrong primary."""
        first, *others = self._sentinels
        self._sentinels = [*others, first]
