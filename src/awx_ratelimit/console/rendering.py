"""`Renderer`: turns the response of a handler into HTML, with strict security headers. The one user of Jinja2.

Pages are not cached, cannot be framed, load only files of this console, and contain no inline script or style. The
names of these files contain a digest of their content, so browsers cache them.
"""

import json
import re
from functools import cache, partial
from hashlib import sha256
from http import HTTPStatus
from importlib.resources import files
from pathlib import Path
from types import CodeType
from typing import Any, Final, NamedTuple

from jinja2 import BytecodeCache, Environment, FileSystemLoader, StrictUndefined
from jinja2.bccache import Bucket

from awx_ratelimit.console import formatting, limit_words
from awx_ratelimit.console.csrf import COOKIE_NAME, CsrfProtection
from awx_ratelimit.console.page_request import Download, LiveEvent, Page, PageRequest, PageResponse, SeeOther, Settings
from awx_ratelimit.http import error_responses
from awx_ratelimit.http.header_values import accepts_html, only_value
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


def asset_reply(url_name: str, request: Request) -> Reply:
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


_CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_SECURITY_HEADERS: Final = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", _CONTENT_SECURITY_POLICY.encode()),
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    # With 'no-referrer', browsers would send our own forms with "Origin: null".
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), clipboard-read=()"),
)
_HTML: Final = b"text/html; charset=utf-8"
_EVENT_STREAM: Final = b"text/event-stream; charset=utf-8"
_is_host = re.compile(r"[0-9A-Za-z.:\[\]-]{1,255}").fullmatch
_is_local_host = re.compile(r"(localhost|127\.[0-9.]+|\[::1\])(:[0-9]+)?").fullmatch


class _CompiledTemplates(BytecodeCache):
    """The compiled templates of all consoles in this process: to compile a page takes longer than to render it."""

    def __init__(self) -> None:
        self._codes: dict[tuple[str, str], CodeType | None] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        bucket.code = self._codes.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._codes[bucket.key, bucket.checksum] = bucket.code


_COMPILED_TEMPLATES: Final = _CompiledTemplates()


class Renderer:
    """Renders the responses of handlers."""

    def __init__(self, csrf: CsrfProtection, settings: Settings) -> None:
        self._csrf = csrf
        self._settings = settings
        self._templates = Environment(
            loader=FileSystemLoader(Path(__file__).with_name("templates")),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            bytecode_cache=_COMPILED_TEMPLATES,
        )
        self._templates.globals |= {
            "formatting": formatting,
            "limit_words": limit_words,
            "settings": settings,
            "base": settings.base,
            "asset": {name: f"{settings.base}/static/{asset.url_name}" for name, asset in assets().items()},
        }

    def render(self, response: PageResponse, request: PageRequest) -> Reply:
        """Render `response`. Errors are JSON for clients that do not accept HTML."""
        if isinstance(response, SeeOther):
            return self.see_other(self._settings.base + response.path)
        if isinstance(response, Download):
            disposition = (b"content-disposition", f'attachment; filename="{response.file_name}"'.encode())
            return _reply(HTTPStatus.OK, response.content_type.encode(), response.text, [disposition])
        if isinstance(response, LiveEvent):
            data = json.dumps(response.data, separators=(",", ":"))
            return _reply(HTTPStatus.OK, _EVENT_STREAM, f"retry: {response.retry_ms}\ndata: {data}\n\n")
        if response.template == "problem.html" and request.is_logged_in and not _accepts_html(request):
            return error_responses.failure(str(response.variables["code"]), None, response.headers)
        html = self._html(response, request)
        return _reply(response.status, _HTML, html, [*_set_cookie(request), *response.headers])

    def see_other(self, url: str) -> Reply:
        """Redirect to `url` with 303."""
        headers = [(b"location", url.encode()), (b"content-length", b"0"), *_SECURITY_HEADERS]
        return Reply(HTTPStatus.SEE_OTHER.value, headers, b"")

    def _html(self, page: Page, request: PageRequest) -> str:
        origin = _origin(request)
        variables: dict[str, Any] = {
            "owner": request.owner,
            "is_logged_in": request.is_logged_in,
            "token": partial(self._csrf.token, request),
            "api_url": _absolute(origin, self._settings.api_base),
            "try_url": _absolute(origin, self._settings.try_path),
        }
        return self._templates.get_template(page.template).render(variables | dict(page.variables))


def _reply(status: HTTPStatus, content_type: bytes, text: str, more: error_responses.Headers = ()) -> Reply:
    body = text.encode()
    headers = [(b"content-type", content_type), (b"content-length", b"%d" % len(body)), *_SECURITY_HEADERS, *more]
    return Reply(status.value, headers, body)


def _accepts_html(request: PageRequest) -> bool:
    return accepts_html(request.full_request.request.values(b"accept"))


def _set_cookie(request: PageRequest) -> error_responses.Headers:
    cookie = request.csrf_cookie
    # Never in the response to a form: a form from another site arrives without our cookie, and must not replace it.
    if cookie is None or not cookie.is_new or request.full_request.request.method not in ("GET", "HEAD"):
        return []
    # Lax, so that following a link to a page does not replace the cookie that forms in other tabs depend on.
    return [(b"set-cookie", f"{COOKIE_NAME}={cookie.values[0]}; Path=/; Secure; HttpOnly; SameSite=Lax".encode())]


def _origin(request: PageRequest) -> str:
    """The origin that the request was sent to, for the commands that users copy."""
    host = (only_value(request.full_request.request.values(b"host")) or b"").decode("latin-1")
    host = host if _is_host(host) else "api.example.com"
    return f"{'http' if _is_local_host(host) else 'https'}://{host}"


def _absolute(origin: str, path: str) -> str:
    return path if "://" in path else origin + path
