"""The URL of one server: what users write, checked, and what the client is given.

No error repeats the URL, for it may hold a password. What would change how calls are sent is no option: a client that
retries would charge twice, and one with a timeout of its own would answer too late.
"""

import re
from urllib.parse import SplitResult, parse_qsl, urlsplit

#: What users write, and what the client calls it.
SCHEMES = {
    "redis": "redis",
    "rediss": "rediss",
    "valkey": "redis",
    "valkeys": "rediss",
    "redis+unix": "unix",
    "unix": "unix",
}
_OF_OPENING = ", and in open_backend also prefix, budget_ms, on_outage, expected_workers"
_OF_MANY = "and redis+sentinel and redis+cluster"
QUOTED = "with each of / # ? % @ in a password as %2F %23 %3F %25 %40"
_ALLOWED = f"allowed are redis://user:password@host:6379/0 and redis+unix:///path/of/socket?db=0, {QUOTED}"
_FILE = "a file"
_NUMBER = "a whole number"
TEXT = "any text"
#: What may stand behind the question mark, and what its values are.
OPTIONS = {"protocol": "2 or 3"}
DATABASE = {"db": _NUMBER}
_TLS_OPTIONS = {
    "ssl_ca_certs": _FILE,
    "ssl_certfile": _FILE,
    "ssl_keyfile": _FILE,
    "ssl_cert_reqs": "none or optional or required",
    "ssl_check_hostname": "true or false",
}


def client_url(url: str) -> str:
    """`url` as the client takes it. Raises ValueError that says what is wrong and what is allowed there."""
    parts = _parts(url)
    if parts is None:
        raise ValueError(f"redis URL: it cannot be read; {_ALLOWED}")
    scheme = SCHEMES.get(parts.scheme)
    if scheme is None:
        raise ValueError(f"redis URL: its scheme is {parts.scheme!r}; allowed are {', '.join(SCHEMES)}, {_OF_MANY}")
    rest = url[len(parts.scheme) :]
    if not rest.startswith("://") or parts.fragment or not _is_place(parts, scheme):
        raise ValueError(f"redis URL: it names no server; {_ALLOWED}")
    checked_options(parts.query, scheme, OPTIONS | DATABASE)
    return scheme + rest


def _parts(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(str(url))
        # The error of a wrong port repeats it: a piece of the password, where that has a slash.
        _ = parts.port
    except ValueError:
        return None
    return parts


def _is_place(parts: SplitResult, scheme: str) -> bool:
    if scheme == "unix":
        return parts.hostname is None and len(parts.path) > 1
    return re.fullmatch("(/[0-9]*)?", parts.path) is not None


def checked_options(query: str, scheme: str, options: dict[str, str]) -> dict[str, str]:
    """What stands behind the question mark, of `options` and those of TLS. Raises ValueError for anything else."""
    given = parse_qsl(query, keep_blank_values=True)
    known = options | _TLS_OPTIONS if scheme == "rediss" else options
    # Where a password has a ? that is not quoted, the rest of it stands here, up to the @.
    shown = "@" not in query
    for name, value in given:
        if name not in known:
            wrong = f"{name!r} is not an option" if shown else "what stands behind the ? is not an option"
            raise ValueError(f"redis URL: {wrong}{_of_tls(name)}; allowed are {', '.join(known)}{_OF_OPENING}")
        if not _is_one(value, known[name]):
            wrong = f"{name} is {value!r}" if shown and known[name] != TEXT else f"{name} is wrong"
            raise ValueError(f"redis URL: {wrong}; allowed is {known[name]}")
    return dict(given)


def _of_tls(name: str) -> str:
    return " here, only of rediss://" if name in _TLS_OPTIONS else ""


def _is_one(value: str, allowed: str) -> bool:
    if allowed in (_FILE, TEXT):
        return bool(value)
    if allowed == _NUMBER:
        return re.fullmatch("[0-9]+", value) is not None
    return value in allowed.split(" or ")
