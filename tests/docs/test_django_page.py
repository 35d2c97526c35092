"""The examples of docs/django.md do what the page says."""

import asyncio
import re
import unittest
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

from django.core.checks import run_checks
from django.http import HttpResponse
from django.urls import path
from rest_framework.exceptions import AuthenticationFailed
from tests.adapters.django_site import Site
from tests.docs.pages import blocks, run_text, text_of

from awx_ratelimit import Request
from awx_ratelimit.adapters.django.configuration import _KEYS
from awx_ratelimit.keys import KeyService

PAGE = "docs/django.md"
BLOCKS = blocks(PAGE, "python")
FIRST, USERS, STORED, KEYS_AND_USERS, VIEWS, REST, PER_USER, PER_KIND, NINJA, *_ = BLOCKS
ENTRY = "awx_ratelimit.adapters.django.RateLimitMiddleware"
SETTINGS = ("INSTALLED_APPS", "MIDDLEWARE", "AWX_RATELIMIT")


def names(block: str) -> dict[str, Any]:
    """The names of a block, with the settings of every test as Django's."""
    with Site({}).active():
        return run_text(block)


class ByKey:
    """Authenticates the user whose name is the key."""

    def authenticate(self, request: Any) -> Any:
        """The user, as the framework wants it."""
        name = request.headers["X-API-Key"]
        return SimpleNamespace(pk=name, is_authenticated=True, get_username=lambda: name), None

    def authenticate_header(self, _: Any) -> str | None:
        """Without a challenge."""
        return None


class ByToken(ByKey):
    """Knows one token."""

    def authenticate(self, request: Any) -> Any:
        """The user of the right token."""
        if request.headers["X-API-Key"] != "right":
            raise AuthenticationFailed
        return SimpleNamespace(pk="ann", is_authenticated=True, is_staff=False), None

    def authenticate_header(self, _: Any) -> str:
        """A challenge, so that a wrong token is a 401."""
        return "Token"


def nobody(get_response: Any) -> Any:
    """A middleware in the place of Django's own: nobody has a session."""

    def middleware(request: Any) -> Any:
        request.user = SimpleNamespace(is_authenticated=False)
        return get_response(request)

    return middleware


def test_first_settings() -> None:
    """The first settings pass the checks, and admit 60 requests of a key a minute, under both protocols."""
    found = names(FIRST)
    settings = {name: found[name] for name in SETTINGS}
    site = Site({"": names(VIEWS)["search"], "free": names(VIEWS)["Reports"].as_view()}, **settings)
    with site.active():
        problems = run_checks(tags=["awx_ratelimit"])
    get = site.wsgi()

    assert problems == []
    assert get("/free").status == 401
    assert [get("/free", "awx_example_key").status for _ in range(11)][-2:] == [200, 429]
    assert site.asgi()("/free", "awx_example_key").headers["ratelimit"].startswith('"minute";r=')


def test_keys_and_users() -> None:
    """A stored key is the caller, else the user is, by both protocols' methods."""
    with Site({}).active():
        found = run_text(STORED + KEYS_AND_USERS)
    keys = KeyService(found["store"])
    keys.accounts.ensure("acct_acme", plan="growth")
    secret = keys.create("acct_acme", "first-key").secret.reveal().encode()
    user = SimpleNamespace(pk=7, is_authenticated=True)
    source = SimpleNamespace(user=user, auser=AsyncMock(return_value=user))
    lines = {b"x-api-key": [secret]}
    with_key = Request("GET", "/", None, lambda name: lines.get(name, []), None, source)
    without = with_key._replace(values=lambda _: [])
    identify = found["AWX_RATELIMIT"]["identify"]

    assert identify(with_key).account == identify.call_async(with_key).account == "acct_acme"
    assert identify(without).subject == asyncio.run(identify.call_async(without)).subject == "user_7"
    assert identify.identify_quietly(without).subject == "user_7"
    identify.verifier.close()
    found["store"].close()


def test_settings_of_users() -> None:
    """The settings with users pass the checks, and staff has another plan."""
    found = names(USERS)
    site = Site({}, INSTALLED_APPS=["awx_ratelimit.adapters.django"], **{name: found[name] for name in SETTINGS[1:]})
    with site.active():
        assert run_checks(tags=["awx_ratelimit"]) == []
    assert found["plan_of"](type("User", (), {"is_staff": True})) == "growth"


def test_views() -> None:
    """Each view has its own limit."""
    found = names(VIEWS)
    views = {"log_in": found["log_in"], "reports": found["Reports"].as_view(), "invoices": found["Invoices"].as_view()}
    get = Site(views).asgi()

    assert [get("/log_in").status for _ in range(6)] == [200] * 5 + [429]
    assert [get("/reports").status for _ in range(11)] == [200] * 10 + [429]
    assert [get("/invoices").status for _ in range(11)] == [200] * 10 + [429]


def test_framework() -> None:
    """The throttle admits 30 requests."""
    site = Site({"": names(REST)["Quotes"].as_view()}, REST_FRAMEWORK={"UNAUTHENTICATED_USER": None})
    get = site.wsgi()

    assert [get("/", address="192.0.2.9").status for _ in range(31)] == [200] * 30 + [429]


def test_limit_per_user() -> None:
    """Each user of the framework has a limit of their own, in an API whose paths the entry exempts."""
    # Few requests, so that no token refills meanwhile.
    found = names(REST + PER_USER.replace("per_minute=100", "per_minute=3"))
    found["orders"].cls.authentication_classes = [ByKey]
    settings = {"MIDDLEWARE": [ENTRY], "AWX_RATELIMIT": found["AWX_RATELIMIT"]}
    get = Site({"api/orders": found["orders"]}, REST_FRAMEWORK={"UNAUTHENTICATED_USER": None}, **settings).wsgi()

    assert [get("/api/orders", "ann").status for _ in range(4)] == [200] * 3 + [429]
    assert get("/api/orders", "bob").status == 200


def test_limit_per_kind_of_user() -> None:
    """Staff has 120 requests a minute, other users 60, and visitors 30, who are nobody."""
    found = names(VIEWS + REST + PER_USER + PER_KIND)
    kinds = [SimpleNamespace(is_authenticated=True, is_staff=staff) for staff in (True, False)]
    visitor = SimpleNamespace(is_authenticated=False)

    assert [found["price"](SimpleNamespace(source=SimpleNamespace(user=user))) for user in (*kinds, visitor)] == [
        1,
        2,
        4,
    ]
    assert found["price"](SimpleNamespace(source=SimpleNamespace(user=None))) == 4


def test_guessed_tokens() -> None:
    """Twenty wrong tokens a minute get a 401 from an address, whose right ones cost nothing of that limit."""
    found = names(VIEWS + REST + PER_USER + PER_KIND)
    found["invoices_of_user"].cls.authentication_classes = [ByToken]
    settings = {
        "MIDDLEWARE": [f"{__name__}.{nobody.__name__}", ENTRY],
        "AWX_RATELIMIT": found["AWX_RATELIMIT"],
        "REST_FRAMEWORK": {"UNAUTHENTICATED_USER": None},
    }
    get = Site({"api/invoices": found["invoices_of_user"]}, **settings).wsgi()

    right = [get("/api/invoices", "right").status for _ in range(25)]
    wrong = [get("/api/invoices", f"guess-{number}").status for number in range(25)]

    assert right == [200] * 25
    assert wrong[:20] == [401] * 20
    assert wrong[-1] == 429


def test_ninja() -> None:
    """The operation and the throttle have limits of their own."""
    get = Site({"": path("", names(NINJA)["api"].urls)}).asgi()

    assert [get("/export").status for _ in range(6)] == [200] * 5 + [429]
    assert get("/export").body.startswith(b'{"code":"rate_limit_exceeded"')
    assert get("/agents").status == 200


def test_keys_of_the_setting() -> None:
    """The keys that the table names exist."""
    table = text_of(PAGE).split("## The setting")[1].split("\n\n`keys`")[0]
    named = {name for row in table.splitlines()[3:] for name in re.findall(r"`(\w+)`", row.split(" | ")[0])}

    assert len(named) > 10
    assert named <= set(_KEYS)


def test_tests_of_a_project() -> None:
    """The tests that docs/testing.md shows pass in a project: one is not limited, and one has a clock."""
    block = next(text for text in blocks("docs/testing.md", "python") if "override_settings" in text)
    with Site({"v1/agents": lambda _: HttpResponse()}, MIDDLEWARE=[ENTRY]).active():
        found = run_text(block)
        load = unittest.defaultTestLoader.loadTestsFromTestCase
        suite = unittest.TestSuite(load(found[name]) for name in ("AgentTests", "LimitTests"))
        result = suite.run(unittest.TestResult())

    assert result.testsRun == 2
    assert [text for _, text in (*result.errors, *result.failures)] == []
