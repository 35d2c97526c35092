"""``explain``: what the gate of an app would do with a request."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from django.test import override_settings
from fastapi import FastAPI
from flask import Flask
from quart import Quart
from sanic import Sanic
from tests.adapters.django_site import ENTRY, Site
from tests.cli.conftest import Module, Named, Run
from tornado.web import Application

from awx_ratelimit import (
    AsyncGate,
    AsyncLimiter,
    Gate,
    Limiter,
    MemoryBackend,
    Plan,
    PlanTable,
    RateLimitMiddleware,
    Rule,
    StaticKeys,
    StoredKeys,
    open_backend,
)
from awx_ratelimit.adapters import aiohttp, flask, sanic, tornado
from awx_ratelimit.keys import KeyFormat, KeyService, KeyStore, KeyVerifier

KEYS = {"awx_example_key": "growth"}
RULES = [Rule("/v1/transfers", methods=["POST"], cost=5)]
OPTIONS: dict[str, Any] = {"keys": KEYS, "rules": RULES}
PARTS: dict[str, Any] = {"plans": PlanTable.default(), "identify": StaticKeys(KEYS), "rules": RULES}


def _with_middleware() -> FastAPI:
    app = FastAPI()
    app.add_middleware(RateLimitMiddleware, **OPTIONS)
    return app


def _flask() -> Flask:
    app = Flask("shop")
    flask.RateLimit(app, **OPTIONS)
    return app


def _quart() -> Quart:
    app = Quart("shop")
    app.asgi_app = RateLimitMiddleware(app.asgi_app, **OPTIONS)  # type: ignore[method-assign,assignment]
    return app


def _limited(limit: Any, app: Any) -> Any:
    limit(app, **OPTIONS)
    return app


@pytest.mark.parametrize(
    "make",
    [
        lambda: Gate(Limiter(MemoryBackend()), **PARTS),
        lambda: AsyncGate(AsyncLimiter(MemoryBackend()), **PARTS),
        lambda: RateLimitMiddleware(FastAPI(), **OPTIONS),
        _with_middleware,
        _flask,
        _quart,
        lambda: _limited(aiohttp.RateLimit, web.Application()),
        lambda: _limited(tornado.RateLimit, Application()),
        lambda: _limited(sanic.RateLimit, Sanic("explained")),
    ],
    ids=["Gate", "AsyncGate", "middleware", "FastAPI", "Flask", "Quart", "aiohttp", "Tornado", "Sanic"],
)
def test_apps(run: Run, named: Named, make: Callable[[], Any]) -> None:
    """The gate is found in the app, and its rules and its plans apply."""
    ran = run("explain", "post", "/v1/transfers", "--app", named(make()), "--subject", "key_1", "--plan", "growth")

    assert ran.status == 0
    assert ran.out.splitlines() == [
        "POST /v1/transfers: allowed",
        "rule: /v1/transfers (POST)",
        "caller: key_1, plan growth",
        "cost: 5 requests",
        "key_1: plan growth",
        "  minute: 300 of 300 requests left",
        "  day: 100000 of 100000 requests left",
        "  concurrent: 25 of 25 slots left",
    ]
    assert "in the memory of each server process" in ran.err


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
def test_django(run: Run, named: Named, kind: str) -> None:
    """A handler of Django is explained by the settings."""
    from django.core.asgi import get_asgi_application
    from django.core.wsgi import get_wsgi_application

    site = Site({}, MIDDLEWARE=[ENTRY], AWX_RATELIMIT=OPTIONS)
    with override_settings(**site.settings):
        app = get_wsgi_application() if kind == "wsgi" else get_asgi_application()
        ran = run("explain", "POST", "/v1/transfers", "--app", named(app), "--subject", "key_1", "--json")

    assert ran.json["cost"] == {"requests": 5}


def test_shared_backend(run: Run, named: Named, tmp_path: Path) -> None:
    """With a backend that processes share, the limits are those of the server, and nothing is charged."""
    url = f"host://{tmp_path}/limits"
    server = Limiter(open_backend(url))
    server.acquire("key_1", PlanTable.default().plans[0])
    app = named(Gate(Limiter(open_backend(url)), **PARTS))
    for _ in range(2):
        ran = run("explain", "GET", "/v1/agents", "--app", app, "--subject", "key_1", "--account", "acme", "--json")

        assert ran.json["caller"] == {"subject": "key_1", "plan": "starter", "account": "acme"}
        assert [limit["remaining"] for limit in ran.json["budgets"][0]["limits"]] == [59, 9_999, 4]
        assert ran.err == ""


def test_stored_key(run: Run, named: Named, service: KeyService, store: KeyStore) -> None:
    """A stored key is named by its id, or read from standard input, and is not used by that."""
    created = service.create("acme", "production")
    verifier = KeyVerifier(store)
    app = named(AsyncGate(AsyncLimiter(MemoryBackend()), **{**PARTS, "identify": StoredKeys(verifier)}))
    command = ("explain", "GET", "/v1/agents", "--app", app, "--json")
    caller = {"subject": created.key.family_id, "plan": "starter", "account": "acme"}

    assert run(*command, "--key-id", created.key.id).json["caller"] == caller
    assert run(*command, "--key", "-", stdin=created.secret.reveal().encode() + b"\n").json["caller"] == caller
    assert verifier.health()["unwritten_uses"] == 0
    service.revoke("acme", created.key.id)
    assert run(*command, "--key-id", created.key.id).json["code"] == "api_key_revoked"
    verifier.close()


def test_subject_of_a_stored_account(run: Run, named: Named, service: KeyService, store: KeyStore) -> None:
    """A subject of an account has the plan and the limits of the account in the app's key store, as a key has."""
    service.accounts.set_overrides("acme", {"per_minute": 7})
    verifier = KeyVerifier(store)
    app = named(Gate(Limiter(MemoryBackend()), **{**PARTS, "identify": StoredKeys(verifier)}))
    command = ("explain", "GET", "/v1/agents", "--app", app, "--json", "--subject", "alice", "--account")
    stored, other = run(*command, "acme").json, run(*command, "unknown", "--plan", "growth").json
    verifier.close()

    assert stored["caller"] == {"subject": "alice", "plan": "starter", "account": "acme"}
    assert [limit["remaining"] for limit in stored["budgets"][0]["limits"]] == [7, 10_000, 5]
    assert other["caller"] == {"subject": "alice", "plan": "growth", "account": "unknown"}


def test_hint_to_the_key(run: Run, named: Named, store: KeyStore) -> None:
    """Without a caller, a note says how to name one, if the app identifies callers by keys."""
    verifier = KeyVerifier(store)
    identifiers = (StaticKeys(KEYS), StoredKeys(verifier), lambda _: "alice")
    apps = [Gate(Limiter(MemoryBackend()), **{**PARTS, "identify": each}) for each in identifiers]
    static, stored, other = [run("explain", "GET", "/", "--app", named(app)).err for app in apps]
    with_key = run("explain", "GET", "/", "--app", named(apps[0]), "--key", "-", stdin=b"awx_example_key").err
    verifier.close()

    assert "this is a request without a key; to explain one with a key, write --key -" in static
    assert "write --key-id ID or --key -" in stored
    assert "without a key" not in other + with_key


def test_keys_are_not_shown(run: Run, named: Named) -> None:
    """The text of a key is in no output, and a key in the command line is refused."""
    app = named(Gate(Limiter(MemoryBackend()), **PARTS))
    known = run("explain", "GET", "/", "--app", app, "--key", "-", stdin=b"awx_example_key")
    wrong = run("explain", "GET", "/", "--app", app, "--key", "-", stdin=b"awx_other_key")
    argument = run("explain", "GET", "/", "--app", app, "--key", "awx_example_key")

    assert "plan growth" in known.out
    assert wrong.out.startswith("GET /: refused with 401 invalid_api_key: API key is invalid.")
    assert argument.status == 2
    assert "--key: expected '-'" in argument.err
    for ran in (known, wrong, argument):
        assert "example_key" not in ran.out + ran.err
        assert "other_key" not in ran.out + ran.err


@pytest.mark.parametrize("option", ["--key-id", "--subject", "--plan", "--account"])
def test_key_in_another_option(run: Run, named: Named, option: str) -> None:
    """A stored key in the place of a name is refused and not shown."""
    key = KeyFormat().new()
    more = () if option in ("--key-id", "--subject") else ("--subject", "key_1")
    ran = run(
        "explain", "GET", "/", "--app", named(Gate(Limiter(MemoryBackend()), **PARTS)), option, key.reveal(), *more
    )

    assert ran.status == 2
    assert f"{option}: contains an API key" in ran.err
    assert key.reveal() not in ran.out + ran.err


@pytest.fixture
def public(named: Named) -> str:
    """The name of a gate that limits clients by their address, under a plan that only its code names."""
    public = Plan.of("public", per_minute=3)
    return named(Gate(Limiter(MemoryBackend()), **PARTS, anonymous=public))


def test_address(run: Run, public: str) -> None:
    """--address is the client that sends the request; without it, a note says that none was given."""
    command = ("explain", "GET", "/v1/agents", "--app", public)
    with_address, without = run(*command, "--address", "192.0.2.1"), run(*command)

    assert "caller: address:192.0.2.1, plan public" in with_address.out
    assert "write --address 192.0.2.1" not in with_address.err
    assert "note: no address was given" in without.err
    assert "write --address 192.0.2.1" in without.err


def test_wrong_address(run: Run, public: str) -> None:
    """What is not an address is an error that says what is."""
    ran = run("explain", "GET", "/v1/agents", "--app", public, "--address", "localhost")

    assert (ran.status, ran.out) == (2, "")
    assert ran.err == "error: address: expected an IP address such as 192.0.2.1, got 'localhost' (str)\n"


@pytest.mark.parametrize("words", [("--subject", "address:192.0.2.1"), ("--subject", "bob", "--plan", "public")])
def test_plan_in_code(run: Run, public: str, words: tuple[str, ...]) -> None:
    """A plan that only the code of the app has applies to the callers that have it there, and can be named."""
    ran = run("explain", "GET", "/v1/agents", "--app", public, *words, "--json")

    assert ran.json["outcome"] == "allowed"
    assert ran.json["caller"]["plan"] == "public"


def test_unknown_plan(run: Run, public: str) -> None:
    """An unknown plan is an error that lists the plans of the table and of the code."""
    ran = run("explain", "GET", "/v1/agents", "--app", public, "--subject", "bob", "--plan", "golden")

    assert ran.status == 2
    assert "--plan: expected one of the plans public, starter, growth, got 'golden'" in ran.err


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--app", "shop"], "--app: expected module:attribute such as shop.main:app, got 'shop'"),
        (["--app", "shop:api"], "--app: expected an attribute of shop, got 'api', which it does not have"),
        (["--app", "no_such_shop:app"], "--app: 'no_such_shop' cannot be imported: ModuleNotFoundError"),
        (["--app", "shop:app"], "expected an app with a rate limit middleware, a middleware or a gate, got a Flask"),
        (["--app", "shop:app", "--subject", "a", "--key", "-"], "expected one of .* got --subject and --key"),
        (["--app", "shop:app", "--plan", "growth"], "--plan: expected --subject too"),
    ],
)
def test_mistakes(run: Run, named: Named, arguments: list[str], error: str) -> None:
    """A mistake is one line that says what was given and what to write."""
    named(Flask("shop"))
    ran = run("explain", "GET", "/", *arguments)

    assert ran.status == 2
    assert ran.err.count("\n") == 1
    assert re.search(error, ran.err), ran.err


BROKEN = """
import sys

from fastapi import FastAPI
from flask import Flask

from awx_ratelimit import Plan, RateLimitMiddleware
{at_import}

def make():
    raise LookupError("no\\nsettings")

app = FastAPI()
app.add_middleware(RateLimitMiddleware, keys={{"awx_example_key": "golden"}})
"""


@pytest.mark.parametrize(
    ("at_import", "attribute", "what"),
    [
        ("raise RuntimeError('DATABASE_URL is not set')", "app",
         r"'{name}' cannot be imported: RuntimeError: DATABASE_URL is not set \({file}:8\); run the command the way"),
        ("sys.exit('SECRET is not set')", "app",
         r"'{name}' cannot be imported: SystemExit: SECRET is not set \({file}:8\)"),
        ("Plan.of('p', per_minute=0)", "app", r"'{name}' cannot be imported: InvalidLimit: .* \({file}:8\)"),
        ("import no_such_package", "app",
         r"'{name}' cannot be imported: ModuleNotFoundError: No module named 'no_such_package' \({file}:8\)"),
        ("def broken(:", "app", r"'{name}' cannot be imported: SyntaxError: .* \({name}.py, line 8\)"),
        ("", "make()", r"'{name}:make\(\)' cannot be called: LookupError: no settings \({file}:11\)"),
        ("", "app", r"the middlewares of '{name}:app' cannot be made: InvalidLimit: .*'golden'"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["explain", "usage"])
def test_broken_app(
    run: Run, module: Module, tmp_path: Path, command: str, at_import: str, attribute: str, what: str
) -> None:
    """What an app raises is one line that names the module, the exception, its place, and what to do."""
    name = module(BROKEN.format(at_import=at_import))
    words = ("GET", "/", "--app") if command == "explain" else ("ada", "--plans")
    ran = run(command, *words, f"{name}:{attribute}")

    assert (ran.status, ran.out) == (2, "")
    assert ran.err.count("\n") == 1
    assert re.search(what.format(name=name, file=f"{tmp_path}/{name}.py"), ran.err), ran.err
    assert ran.err.endswith("in its folder, with its Python and its environment variables\n")


def test_key_id_of_an_app_without_stored_keys(run: Run, named: Named) -> None:
    """An app without a key store cannot look up an id."""
    ran = run("explain", "GET", "/", "--app", named(_flask()), "--key-id", "key_0123456789abcdef")

    assert ran.status == 2
    assert "--key-id: expected an app that identifies callers by StoredKeys" in ran.err
