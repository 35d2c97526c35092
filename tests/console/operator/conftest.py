"""The operator's console, and a client that behaves like the browser of an operator."""

import html
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from tests.browser.site import OPERATOR_SESSION, Site
from tests.console.conftest import FORM, HOST, Response, Send

from awx_ratelimit import Request
from awx_ratelimit.console.operator.routes import EXPLAIN_ROUTES, OPERATOR_ROUTES
from awx_ratelimit.http.message import FullRequest, Reply

OPERATOR = "ann@ops.example"
#: Every page and every form, so that a new one is covered by itself.
ROUTES = [*OPERATOR_ROUTES, *EXPLAIN_ROUTES]
PAGES = [path for path, actions in ROUTES if "GET" in actions and actions["GET"] not in ("asset", "live")]
FORMS = [path for path, actions in ROUTES if "POST" in actions and path]
#: The forms that change an account.
ACTS = [path for path in FORMS if path.startswith("/account/")]
#: The fields that each form is submitted with, and the page that it is on if that is not its own.
FIELDS: dict[str, dict[str, str]] = {
    "/": {"prefix": "a", "plan": "", "status": "active"},
    "/activity": {"account": "{id}", "action": ""},
    "/keys": {"shown": "awx_...x4f2"},
    "/account/plan": {"plan": "growth", "max_keys": "7"},
    "/account/temporary": {"times": "2", "limits": "", "ends": "24-hours", "until": ""},
    "/account/temporary/end": {},
    "/account/overrides": {"limits": "per_minute = 7"},
    "/account/suspend": {"account": "{id}"},
    "/account/resume": {},
    "/explain": {"method": "POST", "path": "/v1/transfers", "key_id": "", "address": ""},
}
PAGE_OF = {"/account/temporary/end": "/account", "/account/resume": "/account"}


class OperatorClient:
    """A browser whose user is logged in as an operator; as nobody if `name` is empty."""

    def __init__(self, send: Send, account: str, name: str = OPERATOR) -> None:
        self.send = send
        self.account = account
        self.name = name
        self.cookie = ""

    def url(self, path: str) -> str:
        """The address of a page; those about an account are about `account`."""
        has_id = path.startswith("/account") and "?" not in path
        return f"/operator{path}?id={quote(self.account)}" if has_id else f"/operator{path}"

    def get(self, path: str, method: str = "GET", **headers: str) -> Response:
        """Open a page."""
        response = self.send(method, self.url(path), self._headers() | headers)
        cookie = response.header("set-cookie")
        if cookie:
            self.cookie = cookie.split(";")[0]
        return response

    def hidden(self, path: str) -> dict[str, str]:
        """The hidden fields of the form that is submitted to `path`."""
        page = self.get(PAGE_OF.get(path, path)).text
        form = page[page.index(f'action="{html.escape(self.url(path))}"') :].split("</form>")[0]
        return dict(re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', form))

    def fields(self, path: str, /, **changes: str) -> dict[str, str]:
        """All fields of a form that is filled in."""
        usual = {name: value.replace("{id}", self.account) for name, value in FIELDS[path].items()}
        return {**self.hidden(path), **usual, **changes}

    def submit(self, path: str, /, **changes: str) -> Response:
        """Fill in and submit a form."""
        return self.post(path, self.fields(path, **changes))

    def post(self, path: str, fields: dict[str, str], **headers: str) -> Response:
        """Post fields. A header with an empty value is left out."""
        form = {"content-type": FORM, "origin": f"https://{HOST}", "sec-fetch-site": "same-origin", **headers}
        return self.send("POST", self.url(path), self._headers() | form, urlencode(fields))

    def _headers(self) -> dict[str, str]:
        session = f"{OPERATOR_SESSION}={self.name}" if self.name else ""
        cookies = "; ".join(filter(None, [session, self.cookie]))
        return {"accept": "text/html", "host": HOST, "cookie": cookies}


def sending(console: Callable[[FullRequest], Reply]) -> Send:
    """Call a console without an adapter."""

    def send(method: str, url: str, headers: dict[str, str], body: str = "") -> Response:
        path, _, query = url.partition("?")
        lines: dict[bytes, Any] = {
            name.replace("_", "-").encode(): [value.encode()] for name, value in headers.items() if value
        }
        request = Request(method, path, None, lambda name: lines.get(name, []))
        reply = console(FullRequest(request, query.encode(), body.encode()))
        shown = [(name.decode(), value.decode()) for name, value in reply.headers]
        return Response(reply.status, shown, reply.body.decode())

    return send


@pytest.fixture
def send(site: Site) -> Send:
    """Send requests to the operator's console."""
    return sending(site.operator_console)


@pytest.fixture
def client(send: Send, site: Site) -> OperatorClient:
    """An operator who looks at an account on the plan "team"."""
    return OperatorClient(send, site.account(plan="team"))


@pytest.fixture
def acted(client: OperatorClient, site: Site) -> Callable[[str], None]:
    """Bring the account into a state in which a form can be submitted."""

    def act(path: str) -> None:
        if path == "/account/temporary/end":
            assert client.submit("/account/temporary").status == 303
        if path == "/account/resume":
            site.service.accounts.suspend(client.account)

    return act


def failing(error: Exception) -> Callable[..., Any]:
    """A function that raises `error`."""

    def fail(*_: object, **__: object) -> None:
        raise error

    return fail
