"""The schemes of the URLs of backends, and what to write instead of a text that has none of them."""

import re
from pathlib import PurePath
from typing import Final
from urllib.parse import quote

from awx_ratelimit.core.option_names import nearest
from awx_ratelimit.core.validation import type_name

_TCP: Final = ("redis", "rediss", "valkey", "valkeys")
_GROUPS: Final = tuple(f"{scheme}+{kind}" for kind in ("sentinel", "cluster") for scheme in _TCP)
POSTGRES: Final = ("postgresql", "postgres")
SCHEMES: Final = ("memory", "host", *_TCP, "redis+unix", "unix", *_GROUPS, *POSTGRES)
_FILE: Final = "host:///path/to/file"
#: URLs of other kinds of backends, by what others call them.
_EXAMPLES: Final = {
    "memory": "memory://",
    **dict.fromkeys(("host", "file", "sqlite"), _FILE),
    **{scheme: f"{scheme}://host:6379" for scheme in _TCP},
    **dict.fromkeys(POSTGRES, "postgresql://user@host/database"),
}
_SCHEME: Final = re.compile("[a-z][a-z0-9+.-]*")
_PATH: Final = re.compile(r"(?:file:(?://)?)?(?P<path>/[^/?#].*)", re.DOTALL)
_SERVER: Final = re.compile(r"(?P<local>localhost|127\.0\.0\.1|\[::1\])(?::[0-9]{1,5})?|[a-z0-9.-]+:[0-9]{4,5}")


def scheme_of(url: str) -> str:
    """The scheme of `url`, in lower case. Raises TypeError unless it is a string, ValueError for an unknown scheme."""
    if not isinstance(url, str):
        example = "a string such as 'redis://host:6379' or 'host:///path/to/file'"
        remedy = f"; write {url_of_file(url)!r}" if isinstance(url, PurePath) else ""
        raise TypeError(f"url: expected {example}, got {type_name(url)}{remedy}")
    # urlsplit cannot parse several hosts.
    scheme, colon, _ = url.lower().partition(":")
    if scheme in SCHEMES and colon:
        return scheme
    # Text that is not a scheme may be a password.
    got = repr(scheme) if colon and _SCHEME.fullmatch(scheme) else "none"
    remedy = "it without spaces around it" if scheme.strip() in SCHEMES and colon else _remedy(url, scheme)
    if remedy:
        raise ValueError(f"backend URL: expected a scheme such as redis://, got {got}; write {remedy}")
    schemes = ", ".join(f"{known}://" for known in SCHEMES)
    raise ValueError(f"backend URL: expected one of the schemes {schemes}; got {got}")


def url_of_file(path: PurePath | str) -> str:
    """The URL of a backend in a file; an example for a relative path, which names another file in each folder."""
    return f"host://{quote(str(path))}" if str(path).startswith("/") else _FILE


def _remedy(text: str, scheme: str) -> str:
    """What to write instead of `text`; empty if nobody can know. It repeats nothing that may be a password."""
    path = _PATH.fullmatch(text)
    if path is not None:
        return url_of_file(path["path"])
    if text.startswith((".", "~")):
        return f"{_FILE}, with the whole path"
    if scheme in _EXAMPLES:
        return _EXAMPLES[scheme]
    server = _SERVER.fullmatch(text.lower())
    if server is not None:
        # The name of another host may be a user, and its port a password.
        return f"redis://{server[0]}" if server["local"] else "redis://host:6379"
    for part in scheme.split("+"):
        if part in SCHEMES and "://" in text:
            return f"{part}://"
    near = nearest(scheme, SCHEMES) if "://" in text else ""
    return f"{near}://" if near else ""
