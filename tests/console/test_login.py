"""The application decides who is logged in; without an owner, nothing is shown."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.browser.site import PLANS, Site, who
from tests.console.conftest import Client

from awx_ratelimit import AsyncLimiter, Limiter, MemoryBackend, Request
from awx_ratelimit.adapters.wsgi import WsgiApp
from awx_ratelimit.console import Console, Owner
from awx_ratelimit.errors import AccessRefused, KeyStoreUnavailable
from awx_ratelimit.http.message import FullRequest, Reply


class SessionError(Exception):
    """An error in the application's own session code."""


@pytest.mark.parametrize(
    ("raised", "status", "logged"),
    [
        (SessionError("session table is gone"), 503, "who raised SessionError; access is refused"),
        (KeyStoreUnavailable("no answer"), 503, "key_store_unavailable: no answer"),
        (AccessRefused("access_token_missing", "there is none"), 403, "not logged in: there is none"),
    ],
)
@pytest.mark.parametrize("path", ["/", "/new", "/live", "/nothing"])
def test_who_raises(
    site: Site, raised: Exception, status: int, logged: str, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An error in `who` refuses access: the response says so, the log says why, and nothing is raised."""
    caplog.set_level("INFO")

    def who(_: Request) -> Owner:
        raise raised

    response = send_with(who, site)(path)
    assert response.status == (204 if status == 403 and path == "/live" else status)
    assert logged in caplog.text
    assert b"session table" not in response.body


@pytest.mark.parametrize("returned", ["acme", ("acme", "ann"), True])
def test_who_returns_another_type(site: Site, returned: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A return value that is not an Owner refuses access, and the log says what to return."""
    response = send_with(lambda _: returned, site)("/")

    assert response.status == 503
    assert "who: expected an Owner or None as the result, got a" in caplog.text


def test_open_page_after_logout(client_of: Callable[[str], Client]) -> None:
    """An open page gets 204, which makes the browser close its event stream."""
    response = client_of("").get("/live")

    assert response.status == 204
    assert response.text == ""


def test_short_secret() -> None:
    """A secret that could be guessed is an error at start."""
    with pytest.raises(ValueError, match="at least 32 bytes"):
        Console(None, who=who, secret="short", limiter=Limiter(MemoryBackend()), plans=PLANS)  # type: ignore[arg-type]


def test_async_limiter_on_wsgi(site: Site) -> None:
    """A console with an AsyncLimiter cannot be mounted in a WSGI app, and the error says why."""
    limiter = AsyncLimiter(MemoryBackend())
    console = Console(site.service, who=who, secret="s" * 32, limiter=limiter, plans=PLANS)

    with pytest.raises(TypeError, match="event loop"):
        WsgiApp(console)


def test_customer_with_the_name_of_an_operator(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """An Owner whom the audit trail would show as an operator is refused, and the log says why."""
    response = send_with(lambda _: Owner("acme", "operator:ann"), site)("/console/")

    assert response.status == 503
    assert "who: expected an Owner whose actor does not begin with 'operator:'" in caplog.text


def send_with(who: Callable[[Request], Any], site: Site) -> Callable[[str], Reply]:
    """Request pages from a console with this `who`."""
    console = Console(site.service, who=who, secret=b"x" * 32, limiter=site.limiter, plans=PLANS)
    return lambda path: console(FullRequest(Request("GET", f"/console{path}", None, lambda _: []), b"", b""))
