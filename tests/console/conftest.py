"""The console mounted as ASGI and as WSGI app, and somebody who asks it as a browser does."""

import html
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient
from tests.browser.site import SESSION, Site
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client as WsgiClient

from awx_ratelimit.adapters.asgi import AsgiApp
from awx_ratelimit.adapters.wsgi import WsgiApp
from awx_ratelimit.keys import KeyStore

HOST = "app.example.com"
FORM = "application/x-www-form-urlencoded"
Ask = Callable[..., "Answer"]


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: list[tuple[str, str]]
    text: str

    def header(self, name: str) -> str | None:
        """The value of a header that stands once, or None."""
        values = [value for key, value in self.headers if key.lower() == name]
        assert len(values) < 2, values
        return values[0] if values else None

    def token(self, action: str) -> str:
        """The token of the form that is sent to `action`."""
        found = re.search(rf'action="{re.escape(action)}".*?name="form" value="([^"]+)"', self.text, re.DOTALL)
        assert found, self.text
        return found[1]

    @property
    def key(self) -> str:
        """The key that it shows; empty where it shows none."""
        found = re.search(r'id="key" data-secret>(awx_[0-9A-Za-z]{38})<', self.text)
        return found[1] if found else ""

    @property
    def heading(self) -> str:
        """What the page is called, without marks."""
        found = re.search(r"<h1>(.*?)</h1>", self.text, re.DOTALL)
        return html.unescape(re.sub(r"<[^>]*>", "", found[1])).strip() if found else ""


class Visitor:
    """Somebody with a browser, logged in to an account."""

    def __init__(self, ask: Ask, account: str) -> None:
        self.ask = ask
        self.account = account
        self.cookie = ""

    def get(self, path: str, **headers: str) -> Answer:
        """A page."""
        answer = self.ask("GET", f"/console{path}", self._headers() | headers)
        given = answer.header("set-cookie")
        if given:
            self.cookie = given.split(";")[0]
        return answer

    def send(self, path: str, *, at: str = "", body: str | None = None, token: str = "", **fields: str) -> Answer:
        """The form on the page `at` (that of `path`, where it is another one), filled in."""
        token = token or self.get(at or path).token(f"/console{path}")
        return self.post(path, body=urlencode({"form": token, **fields}) if body is None else body)

    def post(self, path: str, body: str, **headers: str) -> Answer:
        """A form as it is; a header that is empty is not sent."""
        said = {"content-type": FORM, "origin": f"https://{HOST}", "sec-fetch-site": "same-origin", **headers}
        return self.ask("POST", f"/console{path}", self._headers() | said, body)

    def _headers(self) -> dict[str, str]:
        session = f"{SESSION}={self.account}" if self.account else ""
        cookies = "; ".join(filter(None, [session, self.cookie]))
        return {"accept": "text/html", "host": HOST, "cookie": cookies}


def _asgi(site: Site) -> Ask:
    client = TestClient(Starlette(routes=[Mount("/console", AsgiApp(site.console))]), base_url=f"https://{HOST}")

    def ask(method: str, path: str, headers: dict[str, str], body: str = "") -> Answer:
        sent = {name.replace("_", "-"): value for name, value in headers.items() if value}
        answer = client.request(method, path, headers=sent, content=body, follow_redirects=False)
        client.cookies.clear()
        return Answer(answer.status_code, list(answer.headers.multi_items()), answer.text)

    return ask


def _wsgi(site: Site) -> Ask:
    app = DispatcherMiddleware(lambda *_: [], {"/console": WsgiApp(site.console)})
    client = WsgiClient(app, use_cookies=False)

    def ask(method: str, path: str, headers: dict[str, str], body: str = "") -> Answer:
        sent = {name.replace("_", "-"): value for name, value in headers.items() if value}
        kind = sent.pop("content-type", None)
        options: dict[str, Any] = {"headers": sent, "data": body, "content_type": kind, "base_url": f"https://{HOST}"}
        with client.open(path, method=method, **options) as answer:
            return Answer(answer.status_code, list(answer.headers.items()), answer.get_data(as_text=True))

    return ask


@pytest.fixture
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """A site whose keys are in memory; by its parameter an account may make so many keys a minute."""
    store = KeyStore.open("sqlite://")
    yield Site(store, creations=getattr(request, "param", 1_000))
    store.close()


@pytest.fixture(params=[_asgi, _wsgi], ids=["asgi", "wsgi"])
def mounted(request: pytest.FixtureRequest) -> Callable[[Site], Ask]:
    """Mounts a site through each adapter."""
    mount: Callable[[Site], Ask] = request.param
    return mount


@pytest.fixture
def visitor_of(mounted: Callable[[Site], Ask], site: Site) -> Callable[[str], Visitor]:
    """Makes visitors of accounts."""
    ask = mounted(site)
    return lambda account: Visitor(ask, account)


@pytest.fixture
def visitor(visitor_of: Callable[[str], Visitor], site: Site) -> Visitor:
    """Somebody of an account without a key."""
    return visitor_of(site.account())
