"""`Renderer`: turns the response of a handler into HTML, with strict security headers. The one user of Jinja2.

Pages are not cached, cannot be framed, load only files of this console, and contain no inline script or style.
"""

import json
import re
from functools import partial
from http import HTTPStatus
from pathlib import Path
from types import CodeType
from typing import Any, Final, NamedTuple

from jinja2 import BytecodeCache, Environment, FileSystemLoader, StrictUndefined
from jinja2.bccache import Bucket

from awx_ratelimit.console import formatting, limit_words
from awx_ratelimit.console.assets import asset
from awx_ratelimit.console.csrf import CsrfProtection
from awx_ratelimit.console.page_request import (
    ConsoleRequest,
    Download,
    LiveEvent,
    Page,
    PageResponse,
    SeeOther,
    Settings,
)
from awx_ratelimit.http import error_responses
from awx_ratelimit.http.header_values import accepts_html, only_value
from awx_ratelimit.http.message import Reply
from awx_ratelimit.runtime.documentation import page_url


class Look(NamedTuple):
    """The templates and assets of a console: folders of templates, the first one first, and the names of files."""

    templates: tuple[str, ...]
    assets: tuple[str, ...]


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


_TEMPLATES: Final = Path(__file__).with_name("templates")
_COMPILED_TEMPLATES: Final = _CompiledTemplates()


class Renderer:
    """Renders the responses of handlers."""

    def __init__(self, look: Look, csrf: CsrfProtection, settings: Settings) -> None:
        self._csrf = csrf
        self._settings = settings
        self._templates = Environment(
            loader=FileSystemLoader([_TEMPLATES / folder for folder in look.templates]),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            bytecode_cache=_COMPILED_TEMPLATES,
        )
        self._templates.globals |= {
            "documentation": page_url,
            "formatting": formatting,
            "limit_words": limit_words,
            "settings": settings,
            "base": settings.base,
            "asset": {name: f"{settings.base}/static/{asset(name).url_name}" for name in look.assets},
        }

    def render(self, response: PageResponse, request: ConsoleRequest) -> Reply:
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
        return _reply(response.status, _HTML, html, [*self._set_cookie(request), *response.headers])

    def see_other(self, url: str) -> Reply:
        """Redirect to `url` with 303."""
        headers = [(b"location", url.encode()), (b"content-length", b"0"), *_SECURITY_HEADERS]
        return Reply(HTTPStatus.SEE_OTHER.value, headers, b"")

    def _html(self, page: Page, request: ConsoleRequest) -> str:
        variables: dict[str, Any] = {
            "user": request.user,
            "is_logged_in": request.is_logged_in,
            "token": partial(self._csrf.token, request),
            "absolute": partial(_absolute, _origin(request)),
        }
        return self._templates.get_template(page.template).render(variables | dict(page.variables))

    def _set_cookie(self, request: ConsoleRequest) -> error_responses.Headers:
        cookie = request.csrf_cookie
        # Never in the response to a form: a form from another site arrives without our cookie, and must not replace it.
        if cookie is None or not cookie.is_new or request.full_request.request.method not in ("GET", "HEAD"):
            return []
        return [(b"set-cookie", self._csrf.set_cookie(cookie).encode())]


def _reply(status: HTTPStatus, content_type: bytes, text: str, more: error_responses.Headers = ()) -> Reply:
    body = text.encode()
    headers = [(b"content-type", content_type), (b"content-length", b"%d" % len(body)), *_SECURITY_HEADERS, *more]
    return Reply(status.value, headers, body)


def _accepts_html(request: ConsoleRequest) -> bool:
    return accepts_html(request.full_request.request.values(b"accept"))


def _origin(request: ConsoleRequest) -> str:
    """The origin that the request was sent to, for the commands that users copy."""
    host = (only_value(request.full_request.request.values(b"host")) or b"").decode("latin-1")
    host = host if _is_host(host) else "api.example.com"
    return f"{'http' if _is_local_host(host) else 'https'}://{host}"


def _absolute(origin: str, path: str) -> str:
    return path if "://" in path else origin + path
