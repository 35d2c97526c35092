"""Parses the URL of a server, of a cluster, or of a service behind sentinels.

    redis://user:password@host:6379/0                                   also rediss, valkey and valkeys
    redis+unix:///path/of/socket?db=0
    redis+sentinel://user:password@host:26379,host:26379/service/0      also rediss+, valkey+ and valkeys+
    redis+cluster://user:password@host:6379,host:6379

User and password belong to the servers; sentinels have their own in the query. Some of the listed hosts may be down.

No error repeats the URL, because it may hold a password. Options that change how calls are sent are rejected: a client
that retries would charge twice, and one with a timeout of its own would answer too late.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

from awx_ratelimit.core.option_names import did_you_mean

#: The schemes that users write, and those of redis-py.
_SCHEMES = {
    "redis": "redis",
    "rediss": "rediss",
    "valkey": "redis",
    "valkeys": "rediss",
    "redis+unix": "unix",
    "unix": "unix",
}
_QUOTED = "with each of / # ? % @ in a password as %2F %23 %3F %25 %40"
_EXAMPLES = f"redis://user:password@host:6379/0 or redis+unix:///path/of/socket?db=0, {_QUOTED}"
_FILE = "a file"
_NUMBER = "a whole number"
_TEXT = "any text"
#: The options in the query, and their values.
_OPTIONS = {"protocol": "2 or 3"}
_DATABASE = {"db": _NUMBER}
_TLS_OPTIONS = {
    "ssl_ca_certs": _FILE,
    "ssl_certfile": _FILE,
    "ssl_keyfile": _FILE,
    "ssl_cert_reqs": "none or optional or required",
    "ssl_check_hostname": "true or false",
}
_SENTINEL_OPTIONS = {"sentinel_username": _TEXT, "sentinel_password": _TEXT}
_BACKEND_OPTIONS = ("prefix", "budget_ms", "on_outage", "expected_workers")


class Address(NamedTuple):
    """What a URL names."""

    #: The URL of one server, as redis-py takes it.
    client_url: str
    #: Host and port of each sentinel or known cluster node; empty for a single server.
    seeds: tuple[tuple[str, int], ...] = ()
    #: The service that the sentinels watch; empty without sentinels.
    service: str = ""
    #: User name and password of the sentinels.
    sentinel_options: Mapping[str, Any] = MappingProxyType({})

    def __repr__(self) -> str:
        """Without user and password: error reporters show the repr of local variables."""
        return f"Address(seeds={self.seeds}, service={self.service!r})"


class _Group(NamedTuple):
    """The grammar of a URL with several hosts: default port, path, options, and an example."""

    port: int
    path: str
    options: dict[str, str]
    expected: str


_GROUPS = {
    "sentinel": _Group(
        26379,
        "/(?P<service>[^/]+)(/(?P<db>[0-9]*))?",
        _OPTIONS | _DATABASE | _SENTINEL_OPTIONS,
        f"sentinels and a service, redis+sentinel://user:password@host:26379,host/service/0, {_QUOTED}",
    ),
    "cluster": _Group(
        6379,
        "(/0?)?",
        _OPTIONS,
        f"nodes of a cluster and no database but 0, redis+cluster://user:password@host:6379,host, {_QUOTED}",
    ),
}
_GROUP_SCHEMES = {f"{scheme}+{kind}": kind for scheme in ("redis", "rediss", "valkey", "valkeys") for kind in _GROUPS}
_GROUP_URL = re.compile("//(?P<user>[^/?#@]*@)?(?P<hosts>[^/?#@]+)(?P<path>/[^?#]*)?([?](?P<query>[^#]*))?")
_DATABASE_PATH = re.compile("(/[0-9]*)?").fullmatch
#: redis-py needs a host, and the real one is not known yet.
_ANY_HOST = "localhost"


def parse_url(url: str) -> Address:
    """Parse `url`. Raises ValueError, which says what is wrong and what is expected."""
    scheme, _, rest = str(url).partition(":")
    kind = _GROUP_SCHEMES.get(scheme.lower())
    if kind is None:
        return Address(_client_url(url))
    group, parts = _GROUPS[kind], _GROUP_URL.fullmatch(rest)
    path = parts and re.fullmatch(group.path, parts["path"] or "")
    seeds = _seeds(parts["hosts"], group.port) if parts else ()
    if not parts or not path or not seeds:
        raise ValueError(f"redis URL: expected {group.expected}")
    scheme = _SCHEMES[scheme.lower().partition("+")[0]]
    options = _parse_options(parts["query"] or "", scheme, group.options)
    sentinel_options = {
        "username": options.pop("sentinel_username", None),
        "password": options.pop("sentinel_password", None),
    }
    named = path.groupdict()
    server = f"{scheme}://{parts['user'] or ''}{_ANY_HOST}/{named.get('db') or ''}?{urlencode(options)}"
    return Address(_client_url(server), seeds, unquote(named.get("service") or ""), sentinel_options)


def _seeds(text: str, port: int) -> tuple[tuple[str, int], ...]:
    """The hosts and ports in a comma-separated list; empty if one of them is malformed."""
    try:
        split = [urlsplit(f"//{host}") for host in text.split(",")]
        seeds = tuple((parts.hostname or "", parts.port or port) for parts in split)
    except ValueError:
        return ()
    return seeds if all(host for host, _ in seeds) else ()


def _client_url(url: str) -> str:
    parts = _split(url)
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None:
        known = f"{', '.join(_SCHEMES)}, redis+sentinel, redis+cluster"
        raise ValueError(f"redis URL: expected one of the schemes {known}; got {parts.scheme!r}")
    rest = url[len(parts.scheme) :]
    # After an unquoted / in a password, the path holds the rest of the password, up to the @.
    if rest.startswith("://") and scheme != "unix" and "@" not in parts.path and not _DATABASE_PATH(parts.path):
        raise ValueError("redis URL: database: expected a number, as in redis://host:6379/0")
    if not rest.startswith("://") or parts.fragment or not _names_server(parts, scheme):
        raise ValueError(f"redis URL: expected {_EXAMPLES}; got no server")
    _parse_options(parts.query, scheme, _OPTIONS | _DATABASE)
    return scheme + rest


def _split(url: str) -> SplitResult:
    error = f"redis URL: expected {_EXAMPLES}; got one that cannot be parsed"
    try:
        parts = urlsplit(str(url))
        if "@" not in parts.path + parts.query + parts.fragment:
            error = "redis URL: port: expected a number from 1 to 65535, as in redis://host:6379"
        # Its own error for a wrong port shows a piece of the password if that contains a slash.
        _ = parts.port
    except ValueError:
        raise ValueError(error) from None
    return parts


def _names_server(parts: SplitResult, scheme: str) -> bool:
    if scheme == "unix":
        return parts.hostname is None and len(parts.path) > 1
    return _DATABASE_PATH(parts.path) is not None


def _parse_options(query: str, scheme: str, options: dict[str, str]) -> dict[str, str]:
    """The options in `query`: those in `options`, and the TLS options with ``rediss``. Raises ValueError for others."""
    known = options | _TLS_OPTIONS if scheme == "rediss" else options
    pairs = parse_qsl(query, keep_blank_values=True)
    # After an unquoted ? in a password, the query holds the rest of the password, up to the @.
    may_show = "@" not in query
    for name, value in pairs:
        if name not in known:
            got = f"option {name!r}" if may_show else "an unknown option"
            tls = " (only with rediss://)" if name in _TLS_OPTIONS else ""
            tls = "; for TLS, write rediss://" if name in ("ssl", "tls") and scheme == "redis" else tls
            near = did_you_mean(name, (*known, *_BACKEND_OPTIONS)) if may_show else ""
            named = f"{', '.join(known)}, and in open_backend also {', '.join(_BACKEND_OPTIONS)}"
            raise ValueError(f"redis URL: got {got}{tls}; expected one of {named}{near}")
        if not _is_valid(value, known[name]):
            got = f", got {value!r}" if may_show and known[name] != _TEXT else ""
            raise ValueError(f"redis URL: {name}: expected {known[name]}{got}")
    return dict(pairs)


def _is_valid(value: str, expected: str) -> bool:
    if expected in (_FILE, _TEXT):
        return bool(value)
    if expected == _NUMBER:
        return re.fullmatch("[0-9]+", value) is not None
    return value in expected.split(" or ")
