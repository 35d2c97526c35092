"""The console mounted as ASGI and as WSGI app, and a client that behaves like a browser."""

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
from tests.key_stores import empty
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client as WsgiTestClient

from awx_ratelimit.adapters.asgi import AsgiApp
from awx_ratelimit.adapters.wsgi import WsgiApp
from awx_ratelimit.keys import KeyStore

HOST = "app.example.com"
FORM = "application/x-www-form-urlencoded"
#: Sends a method, a path, headers and a body.
Send = Callable[..., "Response"]


class Response(NamedTuple):
    """A response of the console."""

    status: int
    headers: list[tuple[str, str]]
    text: str

    def header(self, name: str) -> str | None:
        """The value of a header that may appear once, or None."""
        values = [value for key, value in self.headers if key.lower() == name]
        assert len(values) < 2, values
        return values[0] if values else None

    def token(self, action: str) -> str:
        """The token of the form that is submitted to `action`."""
        found = re.search(rf'action="{re.escape(action)}".*?name="form" value="([^"]+)"', self.text, re.DOTALL)
        assert found, self.text
        return found[1]

    @property
    def key(self) -> str:
        """The key on the page, or an empty string."""
        found = re.search(r'id="key" data-secret>(awx_[0-9A-Za-z]{38})<', self.text)
        return found[1] if found else ""

    @property
    def heading(self) -> str:
        """The heading of the page, without tags."""
        found = re.search(r"<h1>(.*?)</h1>", self.text, re.DOTALL)
        return html.unescape(re.sub(r"<[^>]*>", "", found[1])).strip() if found else ""


class Client:
    """A browser whose user is logged in to an account; to none if `account` is empty."""

    def __init__(self, send: Send, account: str) -> None:
        self.send = send
        self.account = account
        self.cookie = ""

    def get(self, path: str, **headers: str) -> Response:
        """Open a page."""
        response = self.send("GET", f"/console{path}", self._headers() | headers)
        cookie = response.header("set-cookie")
        if cookie:
            self.cookie = cookie.split(";")[0]
        return response

    def token(self, path: str) -> str:
        """Open the page at `path`; the token of the form that it submits to itself."""
        return self.get(path).token(f"/console{path}")

    def submit(self, path: str, *, token: str = "", **fields: str) -> Response:
        """Fill in and submit the form on the page at `path`."""
        return self.post(path, urlencode({"form": token or self.token(path), **fields}))

    def create(self, name: str = "n", *, token: str = "") -> Response:
        """Submit the form that creates a key."""
        return self.submit("/new", token=token, name=name, expires_in_days="")

    def post(self, path: str, body: str, **headers: str) -> Response:
        """Post a body. A header with an empty value is left out."""
        form = {"content-type": FORM, "origin": f"https://{HOST}", "sec-fetch-site": "same-origin", **headers}
        return self.send("POST", f"/console{path}", self._headers() | form, body)

    def _headers(self) -> dict[str, str]:
        session = f"{SESSION}={self.account}" if self.account else ""
        cookies = "; ".join(filter(None, [session, self.cookie]))
        return {"accept": "text/html", "host": HOST, "cookie": cookies}


def _asgi(site: Site) -> Send:
    client = TestClient(Starlette(routes=[Mount("/console", AsgiApp(site.console))]), base_url=f"https://{HOST}")

    def send(method: str, path: str, headers: dict[str, str], body: str = "") -> Response:
        sent = {name.replace("_", "-"): value for name, value in headers.items() if value}
        response = client.request(method, path, headers=sent, content=body, follow_redirects=False)
        client.cookies.clear()
        return Response(response.status_code, list(response.headers.multi_items()), response.text)

    return send


def _wsgi(site: Site) -> Send:
    app = DispatcherMiddleware(lambda *_: [], {"/console": WsgiApp(site.console)})
    client = WsgiTestClient(app, use_cookies=False)

    def send(method: str, path: str, headers: dict[str, str], body: str = "") -> Response:
        sent = {name.replace("_", "-"): value for name, value in headers.items() if value}
        kind = sent.pop("content-type", None)
        options: dict[str, Any] = {"headers": sent, "data": body, "content_type": kind, "base_url": f"https://{HOST}"}
        with client.open(path, method=method, **options) as response:
            return Response(response.status_code, list(response.headers.items()), response.get_data(as_text=True))

    return send


@pytest.fixture(scope="session")
def shared_store() -> Iterator[KeyStore]:
    """A store in memory. Opening one in each test, and compiling its statements again, would take half of the time."""
    store = KeyStore.open("sqlite://")
    yield store
    store.close()


@pytest.fixture
def site(request: pytest.FixtureRequest, shared_store: KeyStore) -> Site:
    """A site with its keys in memory. The parameter is the number of keys an account may create per minute."""
    empty(shared_store)
    return Site(shared_store, creations=getattr(request, "param", 1_000))


@pytest.fixture(params=[_asgi, _wsgi], ids=["asgi", "wsgi"])
def mounted(request: pytest.FixtureRequest) -> Callable[[Site], Send]:
    """Mount a site through each adapter."""
    mount: Callable[[Site], Send] = request.param
    return mount


@pytest.fixture
def client_of(mounted: Callable[[Site], Send], site: Site) -> Callable[[str], Client]:
    """Make a client of an account."""
    send = mounted(site)
    return lambda account: Client(send, account)


@pytest.fixture
def client(client_of: Callable[[str], Client], site: Site) -> Client:
    """A client of an account without keys."""
    return client_of(site.account())
