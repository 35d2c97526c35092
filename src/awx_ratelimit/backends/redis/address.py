"""The URL of many servers: of a cluster, or of a service that sentinels watch.

    redis+sentinel://user:password@host:26379,host:26379/service/0      also rediss+, valkey+ and valkeys+
    redis+cluster://user:password@host:6379,host:6379

User and password are those of the servers; sentinels have their own in the query. Any of the servers named may be down.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import unquote, urlencode, urlsplit

from awx_ratelimit.backends.redis.url import DATABASE, OPTIONS, QUOTED, SCHEMES, TEXT, checked_options, client_url


class Address(NamedTuple):
    """What a URL names."""

    #: One of the servers, as the client takes it.
    client_url: str
    #: Where servers are asked for what there is: host and port of each; empty for one server, which is there.
    seeds: tuple[tuple[str, int], ...] = ()
    #: What the seeds watch, where they are sentinels, and what they are to be told of who asks.
    service: str = ""
    of_sentinels: Mapping[str, Any] = MappingProxyType({})


class _Many(NamedTuple):
    """How many servers are named: by which port where none is given, path, options, and in words."""

    port: int
    path: str
    options: dict[str, str]
    allowed: str


_SENTINEL_OPTIONS = {"sentinel_username": TEXT, "sentinel_password": TEXT}
_MANY = {
    "sentinel": _Many(
        26379,
        "/(?P<service>[^/]+)(/(?P<db>[0-9]*))?",
        OPTIONS | DATABASE | _SENTINEL_OPTIONS,
        f"no service and its sentinels; allowed is redis+sentinel://user:password@host:26379,host/service/0, {QUOTED}",
    ),
    "cluster": _Many(
        6379,
        "(/0?)?",
        OPTIONS,
        f"no cluster, which has one database; allowed is redis+cluster://user:password@host:6379,host, {QUOTED}",
    ),
}
_MANY_SCHEMES = {f"{scheme}+{kind}": kind for scheme in ("redis", "rediss", "valkey", "valkeys") for kind in _MANY}
_REST = re.compile("//(?P<user>[^/?#@]*@)?(?P<places>[^/?#@]+)(?P<path>/[^?#]*)?([?](?P<query>[^#]*))?")


def places(url: str) -> Address:
    """What `url` names. Raises ValueError that says what is wrong and what is allowed there."""
    scheme, _, rest = str(url).partition(":")
    kind = _MANY_SCHEMES.get(scheme.lower())
    if kind is None:
        return Address(client_url(url))
    many, parts = _MANY[kind], _REST.fullmatch(rest)
    path = parts and re.fullmatch(many.path, parts["path"] or "")
    seeds = _seeds(parts["places"], many.port) if parts else ()
    if not parts or not path or not seeds:
        raise ValueError(f"redis URL: it names {many.allowed}")
    scheme = SCHEMES[scheme.lower().partition("+")[0]]
    options = checked_options(parts["query"] or "", scheme, many.options)
    of_sentinels = {
        "username": options.pop("sentinel_username", None),
        "password": options.pop("sentinel_password", None),
    }
    named = path.groupdict()
    one = f"{scheme}://{parts['user'] or ''}{_FIRST}/{named.get('db') or ''}?{urlencode(options)}"
    return Address(client_url(one), seeds, unquote(named.get("service") or ""), of_sentinels)


#: Stands where the client wants a server, of which there is none yet.
_FIRST = "localhost"


def _seeds(text: str, port: int) -> tuple[tuple[str, int], ...]:
    """Hosts and ports; empty where one of them is none."""
    seeds: list[tuple[str, int]] = []
    try:
        for place in text.split(","):
            split = urlsplit(f"//{place}")
            seeds.append((split.hostname or "", split.port or port))
    except ValueError:
        return ()
    return tuple(seeds) if all(host for host, _ in seeds) else ()
