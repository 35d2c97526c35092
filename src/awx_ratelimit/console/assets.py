"""The style sheets, the script and the icon. Their names contain a digest of their content, so browsers cache them."""

from collections.abc import Collection
from functools import cache
from hashlib import sha256
from http import HTTPStatus
from importlib.resources import files
from typing import Final, NamedTuple

from awx_ratelimit.http import error_responses
from awx_ratelimit.http.message import Reply, Request

_CONTENT_TYPES: Final = {
    "css": b"text/css; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "svg": b"image/svg+xml",
}
_DIGEST_CHARACTERS: Final = 16


class Asset(NamedTuple):
    """A file: its name in URLs, and the response that serves it."""

    url_name: str
    reply: Reply


@cache
def asset(name: str) -> Asset:
    """The asset in the file `name`."""
    body = (files(__package__) / "static" / name).read_bytes()
    stem, _, extension = name.partition(".")
    headers = [
        (b"content-type", _CONTENT_TYPES[extension]),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"public, max-age=31536000, immutable"),
        (b"x-content-type-options", b"nosniff"),
        (b"cross-origin-resource-policy", b"same-origin"),
        (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    ]
    digest = sha256(body).hexdigest()[:_DIGEST_CHARACTERS]
    return Asset(f"{stem}-{digest}.{extension}", Reply(HTTPStatus.OK.value, headers, body))


def asset_reply(names: Collection[str], url_name: str, request: Request) -> Reply:
    """Serve one of the assets `names`; 404 if none of them has that name in URLs."""
    if request.method not in ("GET", "HEAD"):
        return error_responses.failure("method_not_allowed", None, [(b"allow", b"GET, HEAD")])
    found = (each.reply for each in map(asset, names) if each.url_name == url_name)
    return next(found, error_responses.failure("not_found"))
