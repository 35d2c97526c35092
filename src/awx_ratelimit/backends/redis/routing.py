"""Routes calls to Redis: to the only server, or to the cluster node that has the slot of the key."""

from awx_ratelimit.backends.redis.cluster import Cluster
from awx_ratelimit.backends.redis.endpoint import open_endpoint
from awx_ratelimit.backends.redis.sentinel import SentinelPrimary
from awx_ratelimit.backends.redis.server import Server
from awx_ratelimit.backends.redis.url import parse_url
from awx_ratelimit.backends.remote.routing import Route, SingleServer
from awx_ratelimit.core.validation import type_name

_PERMISSIONS = "~{prefix}:* +eval +evalsha +time +mget +set +del +exists +hget +hset +hdel +pexpire"


def route_to(url: str, *, timeout_ms: int, prefix: str) -> Route:
    """The route to what `url` names. Raises TypeError unless it is a string, and ValueError for a wrong URL."""
    if not isinstance(url, str):
        raise TypeError(f"url: expected a string such as 'redis://host:6379', got {type_name(url)}")
    if timeout_ms.__class__ is not int or timeout_ms < 1:
        raise ValueError(f"timeout_ms: expected an integer >= 1, got {timeout_ms!r}")
    address, timeout_s = parse_url(url), timeout_ms / 1000
    endpoint = open_endpoint(address.client_url, timeout_s)
    permissions = _PERMISSIONS.format(prefix=prefix) + (" +select" if endpoint.database else "")
    if address.service:
        return SingleServer(SentinelPrimary(address, endpoint, timeout_s=timeout_s, permissions=permissions))
    if address.seeds:
        return Cluster(address.seeds, endpoint, timeout_s=timeout_s, permissions=permissions)
    return SingleServer(Server(endpoint, timeout_s=timeout_s, permissions=permissions))
