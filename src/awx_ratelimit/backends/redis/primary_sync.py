"""Asks sentinels which server is the primary of a service at this moment.

Generated from `primary.py` by tools/generate_sync.py: change that module and run the program again.
"""

from typing import Any

from redis.exceptions import RedisError
from redis.sentinel import Sentinel

from awx_ratelimit.backends.redis.primary import Found, NoPrimary
from awx_ratelimit.backends.redis.transport import Endpoint


def primary_of(service: str, sentinels: list[Endpoint]) -> Found:
    """Ask `sentinels` in their order. Raises NoPrimary."""
    clients = [sentinel.client() for sentinel in sentinels]
    watch = _Watch(clients)
    try:
        place = watch.discover_master(service)  # type: ignore[no-untyped-call]
    except RedisError as error:
        raise NoPrimary(error, is_known=watch.knows) from None
    finally:
        watch.close()
    return Found(place, sentinels[clients.index(watch.sentinels[0])])


class _Watch(Sentinel):
    """The client's own search, which also notes in `knows` whether any sentinel knows the service."""

    knows = False

    def __init__(self, clients: list[Any]) -> None:
        super().__init__([])  # type: ignore[no-untyped-call]
        self.sentinels = clients.copy()

    def check_master_state(self, state: Any, service_name: str) -> Any:
        self.knows = True
        return super().check_master_state(state, service_name)  # type: ignore[no-untyped-call]
