"""`Pages`: from a page to the reply that draws it, with the headers that keep it to itself. The one user of Jinja2.

Nothing of it is kept by anybody, framed by another site, or loaded from elsewhere; no script and no style stands in it.
"""

import json
import re
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from awx_ratelimit.console import assets, formatting
from awx_ratelimit.console.csrf import COOKIE, Forms
from awx_ratelimit.console.page_context import Settings
from awx_ratelimit.console.page_request import Answered, Event, Page, SeeOther, Visit
from awx_ratelimit.http import error_responses
from awx_ratelimit.http.header_values import only_value
from awx_ratelimit.http.message import Reply
from awx_ratelimit.http.negotiation import accepts_html

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_ALWAYS: Final = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", _POLICY.encode()),
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    # Not 'no-referrer': a browser would then say of our own forms that they come from nowhere.
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), clipboard-read=()"),
)
_is_host = re.compile(r"[0-9A-Za-z.:\[\]-]{1,255}").fullmatch
_is_here = re.compile(r"(localhost|127\.[0-9.]+|\[::1\])(:[0-9]+)?").fullmatch


class Pages:
    """Draws what a visit is answered with."""

    def __init__(self, forms: Forms, settings: Settings) -> None:
        self._forms = forms
        self._settings = settings
        self._templates = Environment(
            loader=FileSystemLoader(Path(__file__).with_name("templates")),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals |= {
            "words": formatting,
            "settings": settings,
            "base": settings.base,
            "asset": {name: f"{settings.base}/static/{assets.name_of(name)}" for name in assets.NAMES},
        }

    def reply(self, answered: Answered, visit: Visit) -> Reply:
        """The whole answer."""
        if isinstance(answered, SeeOther):
            return self.see_other(self._settings.base + answered.path)
        if isinstance(answered, Event):
            return _event(answered)
        if answered.template == "problem.html" and visit.browser is not None and not _wants_page(visit):
            return error_responses.failure(str(answered.shown["code"]), None, answered.more)
        body = self._drawn(answered, visit).encode()
        lines = [(b"content-type", b"text/html; charset=utf-8"), (b"content-length", b"%d" % len(body)), *_ALWAYS]
        return Reply(answered.status.value, [*lines, *_cookie(visit), *answered.more], body)

    def see_other(self, url: str) -> Reply:
        """What is to be seen next is there."""
        return Reply(
            HTTPStatus.SEE_OTHER.value, [(b"location", url.encode()), (b"content-length", b"0"), *_ALWAYS], b""
        )

    def _drawn(self, page: Page, visit: Visit) -> str:
        site = _site(visit)
        own: dict[str, Any] = {
            "owner": visit.owner,
            "is_somebody": visit.browser is not None,
            "token": partial(self._forms.token, visit),
            "api_url": _absolute(site, self._settings.api_base),
            "try_url": _absolute(site, self._settings.try_path),
        }
        return self._templates.get_template(page.template).render(own | dict(page.shown))


def _wants_page(visit: Visit) -> bool:
    """Whether it is a person who asks: programs are told in JSON what is wrong."""
    return accepts_html(visit.whole.request.values(b"accept"))


def _event(event: Event) -> Reply:
    text = json.dumps(event.said, separators=(",", ":"))
    body = f"retry: {event.every_ms}\ndata: {text}\n\n".encode()
    lines = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"content-length", b"%d" % len(body)), *_ALWAYS]
    return Reply(HTTPStatus.OK.value, lines, body)


def _cookie(visit: Visit) -> error_responses.Lines:
    # Not in the answer to a form: that of another site comes without our cookie, and must not exchange it.
    if visit.browser is None or not visit.browser.is_new or visit.whole.request.method not in ("GET", "HEAD"):
        return []
    # Lax, so that whoever follows a link to a page keeps the cookie that the forms of other tabs were made for.
    return [(b"set-cookie", f"{COOKIE}={visit.browser.cookies[0]}; Path=/; Secure; HttpOnly; SameSite=Lax".encode())]


def _site(visit: Visit) -> str:
    """Where the request was sent, for lines that are copied."""
    host = (only_value(visit.whole.request.values(b"host")) or b"").decode("latin-1")
    host = host if _is_host(host) else "api.example.com"
    return f"{'http' if _is_here(host) else 'https'}://{host}"


def _absolute(site: str, path: str) -> str:
    return path if "://" in path else site + path
