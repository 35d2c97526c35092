"""The style sheet, the script and the icon. Their names contain a digest of their content, so browsers cache them."""

from functools import cache
from hashlib import sha256
from http import HTTPStatus
from importlib.resources import files
from typing import Final, NamedTuple

from awx_ratelimit.http import error_responses
from awx_ratelimit.http.message import Reply, Request

_CONTENT_TYPES: Final = {
    "console.css": b"text/css; charset=utf-8",
    "console.js": b"text/javascript; charset=utf-8",
    "icon.svg": b"image/svg+xml",
}
_DIGEST_CHARACTERS: Final = 16


class Asset(NamedTuple):
    """A file: its name in URLs, and the response that serves it."""

    url_name: str
    reply: Reply


@cache
def assets() -> dict[str, Asset]:
    """All assets by their file names."""
    folder = files(__package__) / "static"
    return {name: _asset(name, (folder / name).read_bytes()) for name in _CONTENT_TYPES}


def reply(url_name: str, request: Request) -> Reply:
    """Serve an asset; 404 if there is none of that name."""
    if request.method not in ("GET", "HEAD"):
        return error_responses.failure("method_not_allowed", None, [(b"allow", b"GET, HEAD")])
    found = (asset.reply for asset in assets().values() if asset.url_name == url_name)
    return next(found, error_responses.failure("not_found"))


def _asset(name: str, body: bytes) -> Asset:
    stem, _, extension = name.partition(".")
    headers = [
        (b"content-type", _CONTENT_TYPES[name]),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"public, max-age=31536000, immutable"),
        (b"x-content-type-options", b"nosniff"),
        (b"cross-origin-resource-policy", b"same-origin"),
        (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    ]
    digest = sha256(body).hexdigest()[:_DIGEST_CHARACTERS]
    return Asset(f"{stem}-{digest}.{extension}", Reply(HTTPStatus.OK.value, headers, body))
