"""The operator's console in ASGI and WSGI apps, and mistakes in its arguments."""

from collections.abc import Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient
from tests.browser.site import OPERATOR_SESSION, PLANS, SECRET, Site
from tests.browser.site import operator as who
from tests.console.conftest import HOST, Response, Send
from tests.console.operator.conftest import OperatorClient, sending
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client as WsgiTestClient

from awx_ratelimit import AsyncGate, AsyncLimiter, MemoryBackend, StaticKeys
from awx_ratelimit.adapters.asgi import AsgiApp
from awx_ratelimit.adapters.wsgi import WsgiApp
from awx_ratelimit.console import Operator, OperatorConsole


def asynchronous(site: Site) -> OperatorConsole:
    """A console with an AsyncLimiter and an AsyncGate."""
    limiter = AsyncLimiter(MemoryBackend())
    gate = AsyncGate(limiter, plans=PLANS, identify=StaticKeys({"awx_of_nobody": "starter"}))
    return OperatorConsole(site.service, who=who, secret=SECRET, limiter=limiter, plans=PLANS, gate=gate)


def over_asgi(site: Site) -> Send:
    """Send requests to the console in an ASGI app."""
    app = Starlette(routes=[Mount("/operator", AsgiApp(asynchronous(site)))])
    client = TestClient(app, base_url=f"https://{HOST}")

    def send(method: str, path: str, headers: dict[str, str], body: str = "") -> Response:
        sent = {name: value for name, value in headers.items() if value}
        answer = client.request(method, path, headers=sent, content=body, follow_redirects=False)
        client.cookies.clear()
        return Response(answer.status_code, list(answer.headers.multi_items()), answer.text)

    return send


def over_wsgi(site: Site) -> Send:
    """Send requests to the console in a WSGI app."""
    app = DispatcherMiddleware(lambda *_: [], {"/operator": WsgiApp(site.operator_console)})
    client = WsgiTestClient(app, use_cookies=False)

    def send(method: str, path: str, headers: dict[str, str], body: str = "") -> Response:
        sent = {name: value for name, value in headers.items() if value}
        kind = sent.pop("content-type", None)
        options: dict[str, Any] = {"headers": sent, "data": body, "content_type": kind, "base_url": f"https://{HOST}"}
        with client.open(path, method=method, **options) as answer:
            return Response(answer.status_code, list(answer.headers.items()), answer.get_data(as_text=True))

    return send


@pytest.mark.parametrize("over", [over_asgi, over_wsgi])
def test_adapters(site: Site, over: Callable[[Site], Send]) -> None:
    """An operator changes an account with a slash in its id and explains a request, over each adapter."""
    client = OperatorClient(over(site), site.account("org/team?a=1&b#c%2f"))
    key = site.key(client.account, "prod")

    assert client.submit("/account/plan", plan="growth").status == 303
    assert site.service.accounts.get(client.account).plan == "growth"
    assert "plan <bdi>growth</bdi>" in client.submit("/explain", key_id=key.id).text


def test_async_on_wsgi(site: Site) -> None:
    """A console with an AsyncGate cannot be mounted in a WSGI app, and the error says why."""
    with pytest.raises(TypeError, match="event loop"):
        WsgiApp(asynchronous(site))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"who": Operator("ann")}, "who: expected a function from a request to an Operator or None, got an Operator"),
        ({"gate": "gate"}, "gate: expected a Gate, an AsyncGate or None, got a str"),
        ({"limiter": None}, "limiter: expected the gate's Limiter or AsyncLimiter, got None"),
        ({"plans": {}}, "plans: expected a PlanTable"),
    ],
)
def test_mistakes(site: Site, arguments: dict[str, Any], error: str) -> None:
    """A wrong argument is an error at the start, which says what to write."""
    right: dict[str, Any] = {"who": who, "secret": SECRET, "limiter": site.limiter, "plans": PLANS}
    with pytest.raises(TypeError) as caught:
        OperatorConsole(site.service, **{**right, **arguments})

    assert str(caught.value).startswith(error)


def test_login_url(site: Site) -> None:
    """Users who are not logged in are sent to the login of the application."""
    console = OperatorConsole(
        site.service, who=who, secret=SECRET, limiter=site.limiter, plans=PLANS, login_url="/staff"
    )
    send = sending(console)

    assert send("GET", "/operator/", {}).header("location") == "/staff"
    assert send("GET", "/operator/", {"cookie": f"{OPERATOR_SESSION}=ann"}).status == 200
