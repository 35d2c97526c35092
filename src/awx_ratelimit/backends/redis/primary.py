"""Asks sentinels which server is the primary of a service at this moment."""

from typing import Any, NamedTuple

from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.exceptions import RedisError

from awx_ratelimit.backends.redis.transport import Endpoint


class NoPrimary(Exception):
    """No sentinel named a primary. `is_known` says whether any of them knows the service; the cause says more."""

    def __init__(self, error: RedisError, *, is_known: bool) -> None:
        super().__init__(str(error))
        self.error = error
        self.is_known = is_known


class Found(NamedTuple):
    """Host and port of the primary, and the sentinel that named it."""

    place: tuple[str, int]
    told_by: Endpoint


async def async_primary_of(service: str, sentinels: list[Endpoint]) -> Found:
    """Ask `sentinels` in their order. Raises NoPrimary."""
    clients = [sentinel.client_in_loop() for sentinel in sentinels]
    watch = _AsyncWatch(clients)
    try:
        place = await watch.discover_master(service)
    except RedisError as error:
        raise NoPrimary(error, is_known=watch.knows) from None
    finally:
        await watch.aclose()
    return Found(place, sentinels[clients.index(watch.sentinels[0])])


class _AsyncWatch(AsyncSentinel):
    """The client's own search, which also notes in `knows` whether any sentinel knows the service."""

    knows = False

    def __init__(self, clients: list[Any]) -> None:
        super().__init__([])  # type: ignore[no-untyped-call]
        self.sentinels = clients.copy()

    def check_master_state(self, state: Any, service_name: str) -> Any:
        self.knows = True
        return super().check_master_state(state, service_name)
