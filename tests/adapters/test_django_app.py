"""The app for INSTALLED_APPS: the system checks, and ``manage.py awx_ratelimit``."""

import asyncio
import re
import sys
from collections.abc import Iterator
from contextlib import closing
from getpass import getuser
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from blockbuster import BlockBuster
from django.apps import apps
from django.core.checks import run_checks
from django.core.management import CommandError, call_command
from django.http import HttpResponse
from tests.adapters.django_site import ENTRY, Site

from awx_ratelimit import (
    Budget,
    Caller,
    Gate,
    Limiter,
    MemoryBackend,
    Plan,
    PlanTable,
    Rule,
    StoredKeys,
    open_async_backend,
    open_backend,
)
from awx_ratelimit.adapters.django import DjangoUser
from awx_ratelimit.adapters.django.configuration import configuration
from awx_ratelimit.core.budget import own_account
from awx_ratelimit.keys import KeyFormat, KeyService, KeyStore, KeyVerifier
from awx_ratelimit.observability.observers import Observer
from awx_ratelimit.testing import ManualClock

APP = "awx_ratelimit.adapters.django"
AUTHENTICATION = "django.contrib.auth.middleware.AuthenticationMiddleware"
PLAN = Plan.of("p", per_minute=60, concurrent=5)


def site(configured: Any, *middleware: str) -> Site:
    """A project with the app."""
    return Site({}, INSTALLED_APPS=[APP], MIDDLEWARE=list(middleware), AWX_RATELIMIT=configured)


def problems(configured: Any, *middleware: str) -> list[str]:
    """The ids of what the checks find."""
    with site(configured, *middleware).active():
        return [str(found.id) for found in run_checks(tags=["awx_ratelimit"])]


def run(configured: Any, *arguments: str) -> str:
    """The output of the command."""
    out = StringIO()
    with site(configured, ENTRY).active():
        call_command("awx_ratelimit", *arguments, stdout=out, stderr=out)
    return out.getvalue()


def settings(backend: Any, **options: Any) -> dict[str, Any]:
    """A configuration over `backend`."""
    return {"keys": {}, "plans": [PLAN], "backend": backend, **options}


@pytest.fixture
def backend() -> MemoryBackend:
    """A backend at a time that stands still."""
    return MemoryBackend(clock=ManualClock(1_000_000_000))


def test_app() -> None:
    """The app has a label of its own, and no models."""
    with site({"keys": {}}).active():
        config = apps.get_app_config("awx_ratelimit")

        assert config.name == APP
        assert list(config.get_models()) == []


def test_right_settings() -> None:
    """Right settings have no problem, and neither has a project that does not use the app yet."""
    assert problems({"keys": {"a": "starter"}}, ENTRY) == []
    assert problems({"identify": DjangoUser()}, AUTHENTICATION, ENTRY) == []
    assert problems(None) == []


@pytest.mark.parametrize(
    "configured",
    [
        None,
        {"key": {}},
        {"keys": {"a": "gold"}},
        {"keys": {}, "backend": "http://x"},
        {"identify": "no.such"},
        {"keys": {}, "listeners": [5]},
    ],
)
def test_wrong_settings(configured: Any) -> None:
    """A wrong setting is the error E001."""
    assert problems(configured, ENTRY) == ["awx_ratelimit.E001"]


def test_order_of_middleware() -> None:
    """Users as callers before AuthenticationMiddleware are the error E002, and a setting without entry a warning."""
    assert problems({"identify": DjangoUser()}, ENTRY, AUTHENTICATION) == ["awx_ratelimit.E002"]
    assert problems({"identify": DjangoUser()}, ENTRY) == ["awx_ratelimit.E002"]
    assert problems({"keys": {}}) == ["awx_ratelimit.W001"]


def test_async_backend() -> None:
    """A backend for event loops only is no problem."""
    assert problems(settings(open_async_backend("redis://localhost:1")), ENTRY) == []


@pytest.mark.parametrize("url", ["host://{folder}/limits", "memory://", "redis://localhost:1"])
def test_checks_in_an_event_loop(tmp_path: Path, url: str, nothing_blocks_the_event_loop: BlockBuster) -> None:
    """An async test or command may run the checks, which block as all checks do."""
    nothing_blocks_the_event_loop.deactivate()

    async def found() -> list[str]:
        return problems(settings(url.format(folder=tmp_path)), ENTRY)

    assert asyncio.run(found()) == []


def test_check_command(backend: MemoryBackend) -> None:
    """It prints each limit and the state of the backend."""
    team = Plan.of("team", per_minute=9, account=Plan.of("a", per_day=7))
    configured = settings(
        backend,
        plans=[PLAN, team],
        anonymous=Plan.of("public", per_minute=3),
        service=Plan.of("all", per_second=90),
        rules=[Rule("/login", budget="login", plan=Plan.of("login", per_hour=5), per="address")],
    )

    assert run(configured, "check").splitlines() == [
        "plan           limit           allows",
        "p              minute          60 per minute, burst 60; at most 120 in any minute",
        "p              concurrent      5 in flight",
        "team           minute          9 per minute, burst 9; at most 18 in any minute",
        "(anonymous)    minute          3 per minute, burst 3; at most 6 in any minute",
        "team           account.day     7 per day, burst 7; at most 14 in any day",
        "(everybody)    service.second  90 per second, burst 90; at most 180 in any second",
        "(rule /login)  login.hour      5 per hour, burst 5; at most 10 in any hour",
        "backend memory: ok",
    ]


def test_scope(backend: MemoryBackend) -> None:
    """`show` and `reset` with --scope mean the budget of a rule, or the limits of a plan in that scope."""
    login, address = Plan.of("login", per_hour=5), "address:192.0.2.1"
    Limiter(backend).acquire(address, login, 2, scope="login")
    Limiter(backend).acquire(address, PLAN, 7, scope="other")
    configured = settings(backend, rules=[Rule("/login", budget="login", plan=login, per="address")])

    assert run(configured, "show", address, "--scope", "login").startswith("login.hour: 3 of 5 left")
    assert run(configured, "show", address, "--scope", "other", "--plan", "p").startswith("other.minute: 53 of 60")
    with pytest.raises(CommandError, match="scope: no rule has the budget 'other'; write one of login, or name the"):
        run(configured, "show", address, "--scope", "other")
    assert run(configured, "reset", address, "--scope", "login") == "usage reset\n"
    assert "in the scope 'login' now" in run(configured, "show", address, "--scope", "login")
    assert run(configured, "show", address, "--scope", "other", "--plan", "p").startswith("other.minute: 53 of 60")


@pytest.mark.parametrize(
    ("words", "left"),
    [(["acme"], 7), (["ada"], 7), (["bob"], 9), (["acme", "--plan", "member"], 7)],
)
def test_show_of_an_account(backend: MemoryBackend, words: list[str], left: int) -> None:
    """`show --scope account` means what all keys of an account share, by the account or by one of its subjects."""
    shared = Plan.of("all", per_month=10)
    member = Plan.of("member", per_minute=60, account=shared)
    Limiter(backend).acquire("ada", PLAN, 3, also=[Budget("acme", shared, "account")])
    Limiter(backend).acquire("bob", PLAN, also=[own_account("bob", shared)])
    keys = {"awx_a": Caller("ada", "member", account="acme"), "awx_b": Caller("bob", "member")}
    shown = run(settings(backend, keys=keys, plans=[member]), "show", *words, "--scope", "account")

    assert shown.startswith(f"account.month: {left} of 10 left, full again in ")
    assert "note" not in shown


def test_show_of_no_shared_limits(backend: MemoryBackend) -> None:
    """If the keys of an account share no limits, or use none of them, `show --scope account` says so."""
    team = Plan.of("team", per_minute=60, account=Plan.of("all", per_month=10))
    words = ("show", "acme", "--scope", "account")
    own = {"identify": lambda _: None, "backend": backend}

    assert "note: the keys of 'acme' share no limits, because the plan 'p'" in run({**own, "plans": [PLAN]}, *words)
    _, limit, note = run({**own, "plans": [team]}, *words).splitlines()
    assert limit == "account.month: 10 of 10 left"
    assert "For a subject, write: manage.py awx_ratelimit show acme. See" in note


@pytest.mark.parametrize("scope", [[], ["--scope", "account"]])
def test_note_of_an_own_identifier(backend: MemoryBackend, scope: list[str]) -> None:
    """`show` says that it does not know what code of the project returns for a caller."""
    team = Plan.of("team", per_minute=60, account=Plan.of("all", per_month=10))
    configured = {"identify": lambda _: None, "plans": [team], "backend": backend}

    assert "`identify` of the app may return another plan or overrides, which need the key" in run(
        configured, "show", "acme", *scope
    )


def test_show_of_everybody(backend: MemoryBackend) -> None:
    """`show service --scope service` shows the limits that everybody shares."""
    everybody = Plan.of("all", per_hour=90)
    Limiter(backend).acquire("service", everybody, 2, scope="service")

    shown = run(settings(backend, service=everybody), "show", "service", "--scope", "service")
    assert shown.startswith("service.hour: 88 of 90 left")


def test_looking_creates_no_file(tmp_path: Path) -> None:
    """The checks and the commands may run as root, whose file the server could not write. The server creates it."""
    configured = settings(f"host://{tmp_path}/limits")
    with site(configured, ENTRY).active():
        found = [*run_checks(tags=["awx_ratelimit"])]
        checked = run(configured, "check")
        after_checks = [*tmp_path.iterdir()]
        with closing(configuration().limiter):
            created = [*tmp_path.iterdir()]

    assert found == []
    assert checked.endswith("backend host: ok\n")
    assert after_checks == []
    assert created == [tmp_path / "limits"]


def test_checks_before_a_server(tmp_path: Path) -> None:
    """A development server runs the checks first. Its requests are limited in the file all the same."""
    configured = {"keys": {"awx_example_key": "p"}, "plans": [PLAN], "backend": f"host://{tmp_path}/limits"}
    served = Site({"": lambda _: HttpResponse()}, INSTALLED_APPS=[APP], MIDDLEWARE=[ENTRY], AWX_RATELIMIT=configured)
    with served.active():
        run_checks(tags=["awx_ratelimit"])
        served.wsgi()("/", "awx_example_key")
        shown = StringIO()
        call_command("awx_ratelimit", "show", "key_1", stdout=shown, stderr=shown)
        configuration().limiter.close()

    assert [*tmp_path.iterdir()] == [tmp_path / "limits"]


def test_listeners_and_checks(tmp_path: Path) -> None:
    """A listener follows the limiters of the server, and not those that a check tries."""
    watched: list[Any] = []

    class Follows(Observer):
        def watch(self, limiter: Any) -> None:
            watched.append(limiter)

        def __call__(self, decision: Any) -> None: ...

    assert problems(settings(f"host://{tmp_path}/limits", listeners=[Follows()]), ENTRY) == []
    assert watched == []


def test_missing_folder(tmp_path: Path) -> None:
    """A file that the server cannot create is a problem, although the checks do not create it."""
    configured = settings(f"host://{tmp_path}/no/limits")

    assert problems(configured, ENTRY) == ["awx_ratelimit.E001"]
    with pytest.raises(CommandError, match="its folder does not exist; create it"):
        run(configured, "check")


def test_show_and_reset(backend: MemoryBackend) -> None:
    """It shows what a subject has left, and resets it."""
    Limiter(backend).acquire("user_7", PLAN, 30)

    rate, slots = run(settings(backend), "show", "user_7").splitlines()
    assert re.fullmatch(r"minute: 3[0-9] of 60 left, full again in (30|2[0-9](\.[0-9])?) seconds", rate)
    assert slots == "concurrent: 4 of 5 left"
    assert run(settings(backend), "reset", "user_7") == "usage reset\n"
    assert run(settings(backend), "show", "user_7").splitlines()[0] == "minute: 60 of 60 left"


def test_show_of_a_stored_key(tmp_path: Path) -> None:
    """It shows a stored key with the plan and the overrides of its account, and what the keys of that share."""
    url, store = f"host://{tmp_path}/limits", KeyStore.open(f"{tmp_path}/keys.db")
    service, verifier = KeyService(store), KeyVerifier(store)
    service.accounts.create("acme", plan="team")
    service.accounts.set_overrides("acme", {"per_minute": 7})
    key = service.create("acme", "n").key.id
    team = Plan.of("team", per_minute=3, account=Plan.of("team.account", per_day=9))
    assert team.account
    with closing(Limiter(open_backend(url))) as limiter:
        limiter.acquire(key, team, also=[Budget("acme", team.account, "account")])
    configured = {"identify": StoredKeys(verifier), "plans": [PLAN, team], "backend": url}
    stored, replaced = run(configured, "show", key), run(configured, "show", key, "--plan", "p")
    verifier.close()
    store.close()

    assert [line.partition(",")[0] for line in stored.splitlines()] == [
        "minute: 6 of 7 left",
        "account.day: 8 of 9 left",
    ]
    assert replaced.splitlines()[1] == "concurrent: 5 of 5 left"


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[tuple[dict[str, Any], KeyService]]:
    """Settings with StoredKeys and limits in a file, and the service of their keys."""
    store = KeyStore.open(f"{tmp_path}/keys.db")
    service, verifier = KeyService(store), KeyVerifier(store)
    service.accounts.create("acme", plan="p")
    url = f"host://{tmp_path}/limits"
    Limiter(open_backend(url)).close()
    yield {"identify": StoredKeys(verifier), "plans": [PLAN], "backend": url}, service
    verifier.close()
    store.close()


@pytest.mark.parametrize("action", ["show", "reset"])
def test_unknown_stored_key(stored: tuple[dict[str, Any], KeyService], action: str) -> None:
    """The ID of a key that the key store does not have is an error, not a caller on the default plan."""
    with pytest.raises(
        CommandError, match=r"^no key of this store has the ID 'key_0123456789abcdef'; look it up with: awx-"
    ):
        run(stored[0], action, "key_0123456789abcdef")


def test_subject_like_a_stored_key(stored: tuple[dict[str, Any], KeyService]) -> None:
    """What has not the form of an ID is a subject of the project; with --plan, so is an ID that the store lacks."""
    configured, _ = stored
    with closing(Limiter(open_backend(configured["backend"]))) as limiter:
        for subject in ("key_1", "key_0123456789abcdef"):
            limiter.acquire(subject, PLAN, 30)

    for words in (["key_1"], ["key_0123456789abcdef", "--plan", "p"]):
        assert re.match("minute: 3[0-9] of 60 left", run(configured, "show", *words))
    assert run(configured, "reset", "key_1") == "usage reset\n"


def test_reset_of_a_rotated_key(stored: tuple[dict[str, Any], KeyService]) -> None:
    """A rotated key shares the usage of its family. The reset is an event, and a key that uses nothing is no error."""
    configured, service = stored
    old = service.create("acme", "n").key.id
    new = service.rotate("acme", old).key.id
    with closing(Limiter(open_backend(configured["backend"]))) as limiter:
        limiter.acquire(old, Plan.of("p", per_minute=60), 30)

    assert run(configured, "reset", new) == f"usage of {old} reset, which {new} shares\n"
    event = service.events("acme").items[0]
    assert (event.action, event.key_id, event.actor) == ("key.usage_reset", new, f"cli:{getuser()}")
    for name in (old, "acme"):
        assert run(configured, "reset", name) == "nothing was reset, because nothing is counted for the subject now\n"


def test_reset_of_nothing(backend: MemoryBackend) -> None:
    """A reset of a subject for which nothing is counted is an error: its name may be misspelled."""
    with pytest.raises(
        CommandError, match=r"^nothing was reset, because nothing is counted for the subject now\. Either"
    ):
        run(settings(backend), "reset", "user_9")


@pytest.mark.parametrize("plan", ["team", lambda user: f"team-{user.pk}"], ids=["named", "of a function"])
def test_show_of_a_user(backend: MemoryBackend, plan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It shows a user with the plan that DjangoUser gives."""
    _with_users(monkeypatch)
    configured = settings(
        backend, identify=DjangoUser(plan), plans=[PLAN, Plan.of("team", per_hour=3), Plan.of("team-7", per_hour=3)]
    )
    del configured["keys"]

    assert run(configured, "show", "user_7").startswith("hour: 3 of 3 left")
    assert run(configured, "show", "someone").startswith("minute: 60 of 60 left")


def _broken_plan(_: Any) -> str:
    raise LookupError("no profile")


@pytest.mark.parametrize(
    ("plan", "error"),
    [
        (_broken_plan, "LookupError: no profile"),
        (lambda _: sys.exit("no profile"), "SystemExit: no profile"),
        (lambda _: 5, "TypeError: plan: expected"),
        (lambda _: "gold", "'gold'"),
    ],
)
def test_plan_that_is_not_found(backend: MemoryBackend, plan: Any, error: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the plan of a user cannot be found, one error says how to name it. `reset` and `--plan` do not need it."""
    _with_users(monkeypatch)
    Limiter(backend).acquire("user_7", PLAN, 30)
    configured = {"identify": DjangoUser(plan), "plans": [PLAN], "backend": backend}

    with pytest.raises(CommandError, match=f"cannot find the plan of 'user_7': .*{error}.*; name the plan with --plan"):
        run(configured, "show", "user_7")
    assert re.match("minute: 3[0-9] of 60 left", run(configured, "show", "user_7", "--plan", "p"))
    assert run(configured, "reset", "user_7") == "usage reset\n"


@pytest.mark.parametrize("subject", ["user_\u0667", "user_07", f"user_{10**30}", "user_x"])
def test_subject_of_no_user(backend: MemoryBackend, subject: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Django reads other texts of a primary key too. No request has such a subject, so it has the default plan."""
    _with_users(monkeypatch)
    team = Plan.of("team", per_hour=3)
    configured = {"identify": DjangoUser(lambda _: "team"), "plans": [PLAN, team], "backend": backend}

    assert run(configured, "show", subject).startswith("minute: 60 of 60 left")


def test_reset_with_a_gate() -> None:
    """The settings with a gate of the project do not say which backend it has."""
    gate = Gate(Limiter(MemoryBackend()), plans=PlanTable([PLAN], default="p"), identify=lambda _: None)

    with pytest.raises(CommandError, match="expected 'backend', got 'gate'; write plans, keys and backend instead"):
        run({"gate": gate}, "reset", "user_7")


def _with_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every number is the primary key of a user, if SQLite has such large ones."""

    def filtered(pk: str) -> Any:
        int(pk).to_bytes(8)
        return SimpleNamespace(first=lambda: _user(pk))

    model = SimpleNamespace(_default_manager=SimpleNamespace(filter=filtered))
    monkeypatch.setattr("awx_ratelimit.adapters.django.users.get_user_model", lambda: model)


def _user(pk: str) -> Any:
    return SimpleNamespace(pk=int(pk), is_authenticated=True)


def test_show_of_nothing_used(backend: MemoryBackend) -> None:
    """A line says so if a subject uses none of its limits, such as an account, which is no subject."""
    shown = run(settings(backend), "show", "acct_acme").splitlines()

    assert shown[:2] == ["minute: 60 of 60 left", "concurrent: 5 of 5 left"]
    assert shown[2].startswith(
        "note: the subject uses none of its limits now. Either it made no requests, everything has"
    )
    assert "For an account, write: manage.py awx_ratelimit show ID --scope account. See docs/identify.md" in shown[2]


@pytest.mark.parametrize("command", ["show", "reset"])
def test_key_as_subject(backend: MemoryBackend, command: str) -> None:
    """A key as an argument is refused, because other users can read command lines, and is not repeated."""
    key = KeyFormat().new().reveal()

    with pytest.raises(CommandError, match=r"^subject: contains an API key; write the subject") as raised:
        run(settings(backend), command, key)

    assert key not in str(raised.value)


def test_show_on_a_host(tmp_path: Path) -> None:
    """It sees the limits of another process on the host."""
    url = f"host://{tmp_path}/limits"
    limiter = Limiter(open_backend(url))
    limiter.acquire("user_7", PLAN)
    limiter.close()

    assert run(settings(url), "show", "user_7").startswith("minute: 59 of 60 left")


@pytest.mark.parametrize(
    ("configured", "arguments", "error"),
    [
        (None, ["check"], "AWX_RATELIMIT: expected a dictionary"),
        ({"keys": {}, "plans": "/no/such.toml"}, ["check"], "AWX_RATELIMIT: .*/no/such.toml"),
        ({"keys": {}}, ["show", "user_7", "--plan", "gold"], "gold"),
        ({"keys": {}}, ["show", ""], "subject: expected a subject"),
        ({"keys": {}}, [], "arguments are required: action"),
        ({"keys": {}}, ["show"], "arguments are required: subject"),
        ({"keys": {}}, ["show", "user_7"], "memory:// .* own process; name a file or a server in 'backend'"),
        ({"keys": {}, "backend": "host:///no/limits"}, ["show", "user_7"], "start your app, or name .* in 'backend'"),
        ({"keys": {}, "backend": "redis://localhost:1"}, ["show", "user_7"], "the backend is unavailable: redis at"),
        ({"keys": {}, "backend": "redis://localhost:1"}, ["check"], "the backend does not work"),
    ],
)
def test_errors_of_the_command(configured: Any, arguments: list[str], error: str) -> None:
    """Every mistake is a CommandError, without a traceback."""
    with pytest.raises(CommandError, match=error):
        run(configured, *arguments)
