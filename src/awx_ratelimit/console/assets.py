"""Style, script and icon: files of this package, whose names change with their content: so they are kept for ever."""

from functools import cache
from hashlib import sha256
from http import HTTPStatus
from importlib.resources import files
from typing import Final, NamedTuple

from awx_ratelimit.http import error_responses
from awx_ratelimit.http.message import Reply, Request

_TYPES: Final = {
    "console.css": b"text/css; charset=utf-8",
    "console.js": b"text/javascript; charset=utf-8",
    "icon.svg": b"image/svg+xml",
}
NAMES: Final = tuple(_TYPES)
_DIGEST_CHARACTERS = 16


class Asset(NamedTuple):
    """A file: the name it is served under, and what is served."""

    served_as: str
    reply: Reply


@cache
def _assets() -> dict[str, Asset]:
    folder = files(__package__) / "static"
    return {name: _asset(name, (folder / name).read_bytes()) for name in _TYPES}


def _asset(name: str, body: bytes) -> Asset:
    stem, _, ending = name.partition(".")
    lines = [
        (b"content-type", _TYPES[name]),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"public, max-age=31536000, immutable"),
        (b"x-content-type-options", b"nosniff"),
        (b"cross-origin-resource-policy", b"same-origin"),
        (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    ]
    digest = sha256(body).hexdigest()[:_DIGEST_CHARACTERS]
    return Asset(f"{stem}-{digest}.{ending}", Reply(HTTPStatus.OK.value, lines, body))


def name_of(file: str) -> str:
    """Under which name `file` is served."""
    return _assets()[file].served_as


def reply(served_as: str, request: Request) -> Reply:
    """The file of that name."""
    if request.method not in ("GET", "HEAD"):
        return error_responses.failure("method_not_allowed", None, [(b"allow", b"GET, HEAD")])
    return next((asset.reply for asset in _assets().values() if asset.served_as == served_as), _none())


def _none() -> Reply:
    return error_responses.failure("not_found")
