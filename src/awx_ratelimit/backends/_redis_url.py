"""The URL of a server: what users write, checked, and what the client is given.

No error repeats the URL, for it may hold a password. What would change how calls are sent is no option: a client that
retries would charge twice, and one with a timeout of its own would answer too late.
"""

import re
from urllib.parse import SplitResult, parse_qsl, urlsplit

#: What users write, and what the client calls it.
_SCHEMES = {
    "redis": "redis",
    "rediss": "rediss",
    "valkey": "redis",
    "valkeys": "rediss",
    "redis+unix": "unix",
    "unix": "unix",
}
_ALLOWED = (
    "allowed are redis://user:password@host:6379/0 and redis+unix:///path/of/socket?db=0, "
    "with each of / # ? % @ in a password as %2F %23 %3F %25 %40"
)
_FILE = "a file"
_NUMBER = "a whole number"
#: What may stand behind the question mark, and what its values are.
_OPTIONS = {"protocol": "2 or 3", "db": _NUMBER}
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
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None:
        raise ValueError(f"redis URL: its scheme is {parts.scheme!r}; allowed are {', '.join(_SCHEMES)}")
    rest = url[len(parts.scheme) :]
    if not rest.startswith("://") or parts.fragment or not _is_place(parts, scheme):
        raise ValueError(f"redis URL: it names no server; {_ALLOWED}")
    _check_options(parts.query, _OPTIONS | _TLS_OPTIONS if scheme == "rediss" else _OPTIONS)
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


def _check_options(query: str, options: dict[str, str]) -> None:
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in options:
            raise ValueError(f"redis URL: it has another option than {', '.join(options)}")
        allowed = options[name]
        if not _is_one(value, allowed):
            raise ValueError(f"redis URL: {name} is wrong; allowed is {allowed}")


def _is_one(value: str, allowed: str) -> bool:
    if allowed == _FILE:
        return bool(value)
    if allowed == _NUMBER:
        return re.fullmatch("[0-9]+", value) is not None
    return value in allowed.split(" or ")
