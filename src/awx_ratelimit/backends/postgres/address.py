"""Parses the URL of a database: what libpq would find wrong only when it connects, and an address for each host.

No error repeats text that may be part of a password.
"""

import re
from typing import Any, Final
from urllib.parse import parse_qsl

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from awx_ratelimit.core.option_names import did_you_mean

_QUOTED: Final = "write each of / # ? % @ in a password as %2F %23 %3F %25 %40"
_EXPECTED: Final = (
    f"postgresql URL: expected postgresql://user@host:5432/database, optionally with ?options of libpq; {_QUOTED}"
)
_OPTIONS: Final = (
    "an option of libpq, such as sslmode or target_session_attrs, and in open_backend also schema, prefix, budget_ms, "
    "on_outage or expected_workers"
)
_OF_HOST: Final = ("host", "hostaddr", "port")
_MAX_PORT: Final = 65_535
_are_numbers = re.compile("[0-9,]*").fullmatch
_is_option = re.compile("[a-z_]{2,40}").fullmatch


def addresses(url: str) -> list[str]:
    """A connection string for each host that `url` names, in order. Raises ValueError for a wrong URL."""
    try:
        parts: dict[str, Any] = conninfo_to_dict(url)
        parts.setdefault("application_name", "awx-ratelimit")
        hosts = _hosts(parts, echo=_is_clear(url))
        shared = {name: value for name, value in parts.items() if name not in _OF_HOST}
        return [make_conninfo(**shared, **host) for host in hosts]
    except psycopg.ProgrammingError:
        raise ValueError(_unknown_option(url) or _EXPECTED) from None


def name_of(conninfos: list[str]) -> str:
    """The name in error messages: hosts, ports and the database."""
    each = [conninfo_to_dict(conninfo) for conninfo in conninfos]
    hosts = [
        f"{parts.get('host') or parts.get('hostaddr') or 'localhost'}{':' * ('port' in parts)}{parts.get('port', '')}"
        for parts in each
    ]
    return f"{','.join(hosts)}/{each[0].get('dbname', '')}"


def _is_clear(url: str) -> bool:
    """Whether everything after the user and the password is what it seems: a password with / or ? is not."""
    _, *later = re.split("[/?]", url.partition("://")[2])
    return not any("@" in part or "%40" in part for part in later)


def _unknown_option(url: str) -> str | None:
    """The error for an option that libpq does not know."""
    query = url.partition("?")[2]
    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()} | {"ssl"}
    unknown = [name for name, _ in parse_qsl(query, keep_blank_values=True) if name not in known]
    if not unknown or not _is_option(unknown[0]) or "@" in query or "%40" in query:
        return None
    advice = did_you_mean(unknown[0], {*known, "schema", "prefix", "budget_ms", "on_outage", "expected_workers"})
    return f"postgresql URL: expected {_OPTIONS}; got {unknown[0]!r}{advice}"


def _hosts(parts: dict[str, Any], *, echo: bool) -> list[dict[str, str]]:
    """The parts that differ from host to host."""
    listed = {name: parts[name].split(",") for name in ("host", "hostaddr") if parts.get(name)}
    if any("@" in host[1:] for hosts in listed.values() for host in hosts):
        raise ValueError(_EXPECTED)
    count = max(map(len, listed.values()), default=1)
    ports = str(parts.get("port", "")).split(",")
    # After an unquoted @ in a password, the port may hold the rest of the password, up to the next @.
    echo = echo and _are_numbers(",".join(ports)) is not None
    for port in filter(None, ports):
        if not (port.isascii() and port.isdecimal() and 1 <= int(port) <= _MAX_PORT):
            got = f", got {port!r}" if echo else f"; {_QUOTED}"
            raise ValueError(f"postgresql URL: port: expected a number from 1 to {_MAX_PORT}{got}")
    if len(ports) not in (1, count) or any(len(hosts) != count for hosts in listed.values()):
        raise ValueError("postgresql URL: expected as many ports and addresses as hosts, or one port for all of them")
    if count > 1 and not all(any(hosts) for hosts in zip(*listed.values(), strict=True)):
        raise ValueError("postgresql URL: expected a host between commas, such as host=first,second; got an empty one")
    ports *= count if len(ports) == 1 else 1
    found = [{name: hosts[at] for name, hosts in listed.items()} for at in range(count)]
    return [each | ({"port": ports[at]} if ports[at] else {}) for at, each in enumerate(found)]
