"""``usage`` and ``reset`` with a key store or an app: the limits are those that the gate would apply."""

import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from getpass import getuser
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Module, Named, Run

from awx_ratelimit import (
    AsyncGate,
    AsyncLimiter,
    Budget,
    Caller,
    Gate,
    InvalidLimit,
    Limiter,
    MemoryBackend,
    Plan,
    PlanTable,
    Request,
    Rule,
    StaticKeys,
    StoredKeys,
)
from awx_ratelimit.backends.open import open_backend
from awx_ratelimit.keys import KeyFormat, KeyService, KeyStore, KeyVerifier

PLANS = """
[plans.starter]
per_day = 1_000
[plans.starter.account]
per_day = 5_000
[plans.solo]
per_minute = 5
"""
Words = Callable[..., Any]


@pytest.fixture
def url(tmp_path: Path) -> str:
    """The URL of a host file with the limits of this test."""
    url = f"host://{tmp_path}/limits"
    Limiter(open_backend(url)).close()
    return url


@pytest.fixture
def capacities(run: Run, tmp_path: Path, database: str, url: str, service: KeyService) -> Words:
    """Runs ``usage`` with the store; returns the capacity of each limit."""
    (tmp_path / "plans.toml").write_text(PLANS)
    always = ("--plans", f"{tmp_path}/plans.toml", "--backend", url, "--database", database, "--json")

    def read(*words: str) -> dict[str, int]:
        return {one["limit"]: one["capacity"] for one in run("usage", *words, *always).json["limits"]}

    return read


def test_overrides_of_the_account(capacities: Words, service: KeyService) -> None:
    """``--account`` applies what the key store has for the account: of each key, and of all its keys."""
    service.accounts.set_overrides("acme", {"per_day": 70, "account": {"per_day": 90}})

    assert capacities("alice", "--account", "acme") == {"account.day": 90, "day": 70}


def test_temporary_overrides(capacities: Words, service: KeyService) -> None:
    """Temporary limits apply until their end."""
    service.accounts.override("acme", {"times": 2}, until=datetime.now(UTC) + timedelta(days=1))

    assert capacities("alice", "--account", "acme") == {"account.day": 10_000, "day": 2_000}


def test_key(capacities: Words, run: Run, service: KeyService) -> None:
    """The ID of a key stands for its account, also that of a revoked key."""
    key = service.create("acme", "n").key
    service.accounts.set_overrides("acme", {"per_day": 70})
    service.revoke("acme", key.id)

    assert capacities(key.id) == {"account.day": 5_000, "day": 70}


@pytest.mark.parametrize("words", [("alice", "--account", "acme"), ("account", "acme")])
def test_note_about_built_in_plans(run: Run, service: KeyService, database: str, url: str, words: Any) -> None:
    """With a store but no plan table, the command says that the limits may not be those of the app."""
    service.accounts.set_plan("acme", "starter")
    always = ("--backend", url, "--database", database)

    noted = run("usage", *words, *always)
    named = run("usage", *words, *always, "--plans", "awx_ratelimit:PlanTable.default()")

    assert "note: these are the limits of the built-in plans" in noted.err
    assert "built-in" not in named.err


def test_rotated_key(run: Run, service: KeyService, database: str, url: str) -> None:
    """A rotated key shares the usage of its family: ``usage`` shows it, and ``reset`` clears it."""
    old = service.create("acme", "n").key
    new = service.rotate("acme", old.id).key
    limiter = Limiter(open_backend(url))
    limiter.release(limiter.acquire(old.id, PlanTable.default().plans[0]))
    limiter.close()
    words = (new.id, "--backend", url, "--database", database)

    before = run("usage", *words, "--json").json
    ran = run("reset", *words)
    after = run("usage", *words, "--json").json

    assert before["subject"] == old.id
    assert [one["used"] for one in before["limits"]] == [1, 1, 0]
    assert ran.err == f"usage of {old.id} reset, which {new.id} shares\n"
    assert [one["used"] for one in after["limits"]] == [0, 0, 0]


def test_audit_of_a_reset(run: Run, service: KeyService, database: str, url: str) -> None:
    """A reset of a key or an account of the store is in its audit trail, unless nothing was counted."""
    old = service.create("acme", "n").key.id
    new = service.rotate("acme", old).key.id
    plan = PlanTable.default().plans[0]
    with closing(Limiter(open_backend(url))) as limiter:
        for subject, scope in ((old, None), ("acme", "account"), ("alice", None)):
            limiter.release(limiter.acquire(subject, plan, scope=scope))
    before = service.events("acme").total

    for words in ((new,), ("acme", "--scope", "account"), ("acme",), ("alice",)):
        run("reset", *words, "--backend", url, "--database", database)
    events = service.events("acme")

    assert events.total == before + 2
    assert [(one.action, one.key_id, one.details) for one in events.items[:2]] == [
        ("account.usage_reset", None, {"subject": "acme", "scope": "account"}),
        ("key.usage_reset", new, {"subject": old, "scope": None}),
    ]
    assert {one.actor for one in events.items[:2]} == {f"cli:{getuser()}"}


def test_plan_option(capacities: Words, service: KeyService) -> None:
    """--plan replaces the plan of the store; a plan that shares no limit needs no --no-account."""
    assert capacities("alice", "--account", "acme", "--plan", "solo") == {"minute": 5}


def test_no_key(capacities: Words) -> None:
    """A subject that is no key is used as it is: an app may have other callers too."""
    assert capacities("alice", "--plan", "solo") == {"minute": 5}


def test_unknown(run: Run, service: KeyService, database: str, url: str) -> None:
    """An unknown account, and a key of another account, are errors on one line."""
    service.accounts.create("other")
    key = service.create("acme", "n").key
    words = ("--backend", url, "--database", database)
    unknown = run("usage", "alice", "--account", "acne", *words)
    foreign = run("usage", key.id, "--account", "other", *words)

    assert (unknown.status, foreign.status) == (2, 2)
    assert unknown.err.startswith("error: account: there is no account 'acne'; list the accounts with: awx-ratelimit")
    assert foreign.err.startswith(
        f"error: the account 'other' has no key '{key.id}'; list the keys with: awx-ratelimit"
    )


@pytest.mark.parametrize("command", ["usage", "reset"])
@pytest.mark.parametrize("account", [(), ("--account", "acme")], ids=["", "account"])
def test_unknown_key(
    run: Run, service: KeyService, database: str, url: str, command: str, account: tuple[str, ...]
) -> None:
    """The ID of a key that the store does not have is an error, not a caller on the default plan."""
    subject = "key_0123456789abcdef"
    ran = run(command, subject, *(account if command == "usage" else ()), "--backend", url, "--database", database)

    assert (ran.status, ran.out) == (2, "")
    assert ran.err == (
        f"error: no key of this store has the ID '{subject}'; look it up with: awx-ratelimit keys find awx_...x4f2. "
        "See docs/errors.md#api_key_not_found\n"
    )


@pytest.mark.parametrize(
    ("subject", "plan"),
    [("key_1", ()), ("key_1", ("--plan", "starter")), ("key_0123456789abcdef", ("--plan", "starter"))],
)
@pytest.mark.parametrize("account", [(), ("--account", "acme")], ids=["", "account"])
def test_subject_of_the_app_like_a_key(
    run: Run,
    service: KeyService,
    store: KeyStore,
    database: str,
    url: str,
    named: Named,
    subject: str,
    plan: tuple[str, ...],
    account: tuple[str, ...],
) -> None:
    """What has not the form of an ID is a subject of the app; with --plan, so is an ID that the store does not have."""
    verifier = KeyVerifier(store)
    app = named(Gate(Limiter(MemoryBackend()), plans=PlanTable.default(), identify=StoredKeys(verifier)))
    limiter = Limiter(open_backend(url))
    limiter.release(limiter.acquire(subject, PlanTable.default().plans[0]))
    limiter.close()
    always = (*plan, *account, "--backend", url, "--json")
    looks = [run("usage", subject, *always, *found) for found in (("--database", database), ("--plans", app))]
    explained = run("explain", "GET", "/", "--app", app, "--subject", subject, *plan, *account)
    verifier.close()

    assert [ran.status for ran in (*looks, explained)] == [0, 0, 0]
    for look in looks:
        assert next(one["used"] for one in look.json["limits"] if one["scope"] is None) == 1


def test_reset_of_a_subject_like_a_key(run: Run, service: KeyService, database: str, url: str) -> None:
    """`reset` with a store takes any subject of the app, also one that begins as the IDs of keys do."""
    limiter = Limiter(open_backend(url))
    limiter.release(limiter.acquire("key_1", PlanTable.default().plans[0]))
    limiter.close()

    ran = run("reset", "key_1", "--backend", url, "--database", database)

    assert (ran.status, ran.err) == (0, "usage reset\n")


def test_static_key_beside_a_store(run: Run, service: KeyService, database: str, url: str) -> None:
    """The subject of a key in StaticKeys is no ID of a stored key."""
    ran = run("usage", "key_be6f497413652675f18b0f100b5c2ae9", "--backend", url, "--database", database)

    assert ran.status == 0


def test_reset_of_a_known_caller(run: Run, service: KeyService, database: str, url: str) -> None:
    """`reset` succeeds for a key or an account of the store for which nothing is counted, and says so."""
    key = service.create("acme", "n").key.id
    words = ("--backend", url, "--database", database)
    known = [run("reset", name, *words) for name in (key, "acme")]
    unknown = run("reset", "alice", *words)

    assert [ran.status for ran in known] == [0, 0]
    assert [ran.err for ran in known] == ["nothing was reset, because nothing is counted for the subject now\n"] * 2
    assert unknown.status == 1


def test_shared_use(run: Run, service: KeyService, database: str, url: str, tmp_path: Path) -> None:
    """What the keys of the account share is counted at the account that the store names."""
    (tmp_path / "plans.toml").write_text(PLANS)
    starter = PlanTable.from_mapping({"plans": {"starter": {"per_day": 1_000, "account": {"per_day": 5_000}}}}).plans[0]
    assert starter.account
    key = service.create("acme", "n").key
    limiter = Limiter(open_backend(url))
    limiter.acquire(key.id, starter, also=[Budget("acme", starter.account, scope="account")])
    limiter.close()

    ran = run("usage", key.id, "--plans", f"{tmp_path}/plans.toml", "--backend", url, "--database", database, "--json")

    assert ran.json["account"] == "acme"
    assert [one["used"] for one in ran.json["limits"]] == [1, 1]


@pytest.fixture
def used(url: str, service: KeyService) -> str:
    """A key that the key store has, with one request in the host file."""
    created = service.create("acme", "n")
    limiter = Limiter(open_backend(url))
    limiter.release(limiter.acquire(created.key.id, PlanTable.default().plans[0]))
    limiter.close()
    return created.secret.reveal()


def test_whole_key(run: Run, service: KeyService, database: str, url: str, used: str) -> None:
    """'-' reads a whole key from standard input. Its subject is printed, and the key is not."""
    [key] = service.list("acme").items
    words = ("-", "--backend", url, "--database", database)
    before = run("usage", *words, stdin=f"{used}\n".encode())
    ran = run("reset", *words, stdin=used.encode())
    after = run("usage", key.id, "--backend", url, "--json").json

    assert before.status == 0
    assert before.err.splitlines()[0] == f"subject: {key.id}"
    assert ran.err == f"subject: {key.id}\nusage reset\n"
    assert used not in before.out + before.err + ran.out + ran.err
    assert {one["used"] for one in after["limits"]} == {0}


def test_unknown_whole_key(run: Run, service: KeyService, database: str, url: str) -> None:
    """A key that the store does not have is an error on one line, which does not repeat it."""
    text = KeyFormat().new().reveal()
    ran = run("usage", "-", "--backend", url, "--database", database, stdin=text.encode())

    assert ran.status == 2
    assert ran.err.startswith("error: this store does not have the key; check --database; omit it for a key in Static")
    assert text not in ran.err


def test_static_key(run: Run, url: str) -> None:
    """Without a key store, a whole key has the subject that StaticKeys gives it."""
    caller = StaticKeys({"awx_example_key": "starter"})(
        Request("GET", "/", None, lambda name: [b"awx_example_key"] if name == b"x-api-key" else [])
    )
    assert caller is not None
    ran = run("usage", "-", "--backend", url, "--json", stdin=b"awx_example_key")

    assert ran.json["subject"] == caller.subject
    assert ran.err.startswith(f"subject: {caller.subject}\n")


@pytest.mark.parametrize("command", ["usage", "reset"])
def test_key_as_argument(run: Run, url: str, used: str, command: str) -> None:
    """A whole key as an argument is refused, because other users can read command lines, and is not repeated."""
    ran = run(command, used, "--backend", url)
    account = run("usage", "alice", "--account", used, "--backend", url)

    assert (ran.status, account.status) == (2, 2)
    assert ran.out + account.out == ""
    assert ran.err == "error: SUBJECT: contains an API key; write '-', and give the key on standard input\n"
    assert account.err.startswith("error: --account: contains an API key; remove it")
    assert used[4:30] not in ran.err + account.err


def test_nothing_recorded(run: Run, url: str, used: str) -> None:
    """For a subject that uses nothing, a line says what may be the reason, and where its name comes from."""
    unknown, known = run("usage", "alice", "--backend", url), run("usage", "-", "--backend", url, stdin=b"x")

    assert unknown.status == 0
    assert unknown.err == (
        "note: the subject uses none of its limits now. Either it made no requests, everything has refilled, or your "
        "app names it otherwise. For an account, write: awx-ratelimit usage ID --scope account. "
        "See docs/identify.md#the-name-of-a-subject\n"
    )
    # The name of a key is no account.
    assert known.err.endswith(
        "note: the subject uses none of its limits now. Either it made no requests, everything has refilled, or your "
        "app names it "
        "otherwise. See docs/identify.md#the-name-of-a-subject\n"
    )


CODE_PLAN = Plan.of("code", per_hour=40, account=Plan.of("shared", per_hour=90))
PUBLIC = Plan.of("public", per_minute=3)


@pytest.fixture
def app(named: Named) -> str:
    """The name of a gate whose plans are written in code: those of a static key and of anonymous callers."""
    keys = StaticKeys({"awx_example_key": Caller("ada", CODE_PLAN, account="acme")})
    return named(Gate(Limiter(MemoryBackend()), plans=PlanTable.default(), identify=keys, anonymous=PUBLIC))


@pytest.mark.parametrize(
    ("words", "capacities"),
    [
        (("ada",), {"account.hour": 90, "hour": 40}),
        (("address:192.0.2.1",), {"minute": 3}),
        (("bob", "--plan", "public"), {"minute": 3}),
        (("bob", "--account", "acme"), {"account.hour": 90, "hour": 40}),
        (("bob", "--plan", "growth"), {"minute": 300, "day": 100_000, "concurrent": 25}),
        (("account", "acme"), {"account.hour": 90}),
    ],
)
def test_plans_in_code(run: Run, url: str, app: str, words: tuple[str, ...], capacities: dict[str, int]) -> None:
    """With an app as --plans, subjects have the plans that its code gives them, and --plan may name any of these."""
    ran = run("usage", *words, "--plans", app, "--backend", url, "--json")

    assert ran.status == 0, ran.err
    assert {one["limit"]: one["capacity"] for one in ran.json["limits"]} == capacities


def test_whole_key_of_an_app(run: Run, url: str, app: str) -> None:
    """'-' with an app as --plans names the subject that the app gives the key. An unknown key is not repeated."""
    known = run("usage", "-", "--plans", app, "--backend", url, "--json", stdin=b"awx_example_key")
    unknown = run("usage", "-", "--plans", app, "--backend", url, stdin=b"awx_other_key")

    assert known.json["subject"] == "ada"
    assert unknown.status == 2
    assert unknown.err.startswith("error: the app does not have the key; check --plans")
    assert "awx_other_key" not in unknown.err


LOGIN = Plan.of("login", per_minute=5)


@pytest.fixture
def budgets(named: Named, url: str) -> str:
    """The name of a gate whose rules have budgets for each kind of owner, of which some is used."""
    rules = [
        Rule(f"/{per}", budget=f"by-{per}", plan=LOGIN, per=per) for per in ("caller", "account", "address", "everyone")
    ]
    keys = StaticKeys({"awx_a": Caller("ada", CODE_PLAN, account="acme"), "awx_b": Caller("bob", PUBLIC)})
    with closing(Limiter(open_backend(url))) as limiter:
        gate = Gate(limiter, plans=PlanTable.default(), identify=keys, rules=rules)
        for key, per in (("a", "caller"), ("a", "account"), ("b", "account"), ("b", "address"), ("a", "everyone")):
            headers = {b"x-api-key": [f"awx_{key}".encode()]}
            gate.admit(Request("GET", f"/{per}", "192.0.2.1", lambda name, sent=headers: sent.get(name, [])))  # type: ignore[misc]
    return named(gate)


@pytest.mark.parametrize(
    ("subject", "scope", "of"),
    [
        ("ada", "by-caller", "ada"),
        ("ada", "by-account", "acme"),
        ("bob", "by-account", "bob"),
        ("address:192.0.2.1", "by-address", "address:192.0.2.1"),
        ("ada", "by-everyone", "everyone"),
        ("everyone", "by-everyone", "everyone"),
    ],
)
def test_budget_of_a_rule(run: Run, url: str, budgets: str, subject: str, scope: str, of: str) -> None:
    """--scope shows the budget of a rule of the app, whoever owns it."""
    ran = run("usage", subject, "--scope", scope, "--plans", budgets, "--backend", url, "--json")

    assert ran.json["subject"] == of
    assert [(one["limit"], one["used"], one["capacity"]) for one in ran.json["limits"]] == [(f"{scope}.minute", 1, 5)]


def test_scope_of_a_plan(run: Run, url: str, named: Named, budgets: str) -> None:
    """--scope with --plan shows the limits of that plan in the scope, also without an app; --plans may name a Plan."""
    words = ("usage", "ada", "--scope", "by-caller", "--backend", url, "--json")
    of_app = run(*words, "--plans", budgets, "--plan", "growth").json
    of_plan = run(*words, "--plans", named(LOGIN), "--plan", "login").json
    own = run("usage", "login:ann", "--plans", named(LOGIN), "--backend", url, "--json").json

    assert [one["capacity"] for one in of_app["limits"]] == [300, 100_000, 25]
    assert [(one["limit"], one["used"]) for one in of_plan["limits"]] == [("by-caller.minute", 1)]
    assert [one["capacity"] for one in own["limits"]] == [5]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--plans", "APP"), "scope: no rule has the budget 'logon'; write one of by-account, by-address, by-caller"),
        ((), "scope: no rule has the budget 'logon'; name an app whose rules have it with --plans, or name the plan"),
        (("--plan", "golden"), "--plan: expected one of the plans starter, growth, got 'golden'"),
    ],
)
def test_unknown_scope(run: Run, url: str, budgets: str, words: tuple[str, ...], says: str) -> None:
    """A scope whose limits are not known is one error that says how to name them."""
    named = (budgets if word == "APP" else word for word in words)
    ran = run("usage", "ada", "--scope", "logon", *named, "--backend", url)

    assert (ran.status, ran.out) == (2, "")
    assert says in ran.err


@pytest.mark.parametrize(
    ("words", "of", "used"),
    [
        (("acme",), "acme", 3),
        (("ada",), "acme", 3),
        (("bob", "--account", "acme"), "acme", 3),
        (("acme", "--plan", "member"), "acme", 3),
        (("bob",), "bob", 1),
        (("bob", "--no-account"), "bob", 1),
    ],
)
def test_scope_of_accounts(run: Run, url: str, named: Named, words: tuple[str, ...], of: str, used: int) -> None:
    """--scope account shows what all keys of an account share, by the account or by a key; alone, what a key uses."""
    member = Plan.of("member", per_minute=60, account=Plan.of("all", per_month=10))
    keys = StaticKeys({"awx_a": Caller("ada", member, account="acme"), "awx_b": Caller("bob", member)})
    with closing(Limiter(open_backend(url))) as limiter:
        gate = Gate(limiter, plans=PlanTable([member], default="member"), identify=keys)
        for key in ("a", "a", "a", "b"):
            headers = {b"x-api-key": [f"awx_{key}".encode()]}
            gate.admit(Request("GET", "/", None, lambda name, sent=headers: sent.get(name, [])))  # type: ignore[misc]

    ran = run("usage", *words, "--scope", "account", "--plans", named(gate), "--backend", url, "--json")

    assert ran.status == 0, ran.err
    assert [(one["limit"], one["scope"], one["subject"], one["used"]) for one in ran.json["limits"]] == [
        ("account.month", "account", of, used)
    ]
    assert ran.err == ""


def test_scope_of_accounts_in_a_store(capacities: Words, service: KeyService) -> None:
    """--scope account means the account of a stored key, or the account itself, with its overrides."""
    key = service.create("acme", "n").key.id
    service.accounts.set_overrides("acme", {"account": {"per_day": 70}})

    assert capacities("acme", "--scope", "account") == {"account.day": 70}
    assert capacities(key, "--scope", "account") == {"account.day": 70}


def test_scope_without_account_limits(run: Run, url: str) -> None:
    """As `usage account`, --scope account says so if the keys of the account share no limits."""
    words = (("acme", "--scope", "account"), ("account", "acme"))
    of_scope, of_account = (run("usage", *each, "--backend", url, "--json") for each in words)

    assert of_scope == of_account
    assert "the keys of 'acme' share no limits, because the plan 'starter' has no table `account`" in of_scope.err


@pytest.mark.parametrize("subject", ["service", "ada"])
def test_scope_of_everybody(run: Run, url: str, named: Named, subject: str) -> None:
    """--scope service shows the limits that everybody shares, of the plan table or of the gate."""
    everybody = Plan.of("all", per_hour=90)
    table = PlanTable([LOGIN], default="login", service=everybody)
    with closing(Limiter(open_backend(url))) as limiter:
        limiter.acquire("service", everybody, 2, scope="service")
    apps = [
        table,
        Gate(
            Limiter(MemoryBackend()),
            plans=PlanTable([LOGIN], default="login"),
            identify=StaticKeys({}),
            service=everybody,
        ),
    ]
    words = ("usage", subject, "--scope", "service", "--backend", url, "--json")

    for app in apps:
        shown = run(*words, "--plans", named(app)).json
        assert shown["subject"] == "service"
        assert [(one["limit"], one["used"]) for one in shown["limits"]] == [("service.hour", 2)]
    assert "scope: the plan table has no limits that everybody shares; add [service] to it" in run(*words).err


def test_unknown_plan_of_an_app(run: Run, url: str, app: str) -> None:
    """A plan that neither the table nor the code has is an error that lists all of them."""
    ran = run("usage", "ada", "--plans", app, "--plan", "golden", "--backend", url)

    assert ran.status == 2
    assert "--plan: expected one of the plans public, code, starter, growth, got 'golden'" in ran.err


def test_store_of_an_app(run: Run, url: str, named: Named, service: KeyService, store: KeyStore) -> None:
    """An app that identifies callers by StoredKeys needs no --database."""
    service.accounts.set_overrides("acme", {"per_minute": 7})
    key, verifier = service.create("acme", "n").key, KeyVerifier(store)
    gate = Gate(Limiter(MemoryBackend()), plans=PlanTable.default(), identify=StoredKeys(verifier))
    ran = run("usage", key.id, "--plans", named(gate), "--backend", url, "--json")
    verifier.close()

    assert (ran.json["account"], ran.json["limits"][0]["capacity"]) == ("acme", 7)


class _LookedUp(StaticKeys):
    """Knows keys that are not in the mapping."""

    def __call__(self, request: Request) -> Caller | None:
        if request.header("x-api-key") == "awx_another_key":
            return Caller("eve", CODE_PLAN, account="acme")
        return super().__call__(request)


async def _own(request: Request) -> Caller | str | None:
    key = request.header("x-api-key")
    if key == "awx_broken_key":
        raise LookupError(key)
    return "bob" if key == "awx_another_key" else None


def test_whole_key_of_an_own_identifier(run: Run, url: str, named: Named) -> None:
    """'-' names the subject that the identifier of the app finds, also in a subclass and in one that is awaited."""
    plans = PlanTable.default()
    subclass = named(Gate(Limiter(MemoryBackend()), plans=plans, identify=_LookedUp({})))
    looked_up = run("usage", "-", "--plans", subclass, "--backend", url, "--json", stdin=b"awx_another_key")
    own = named(AsyncGate(AsyncLimiter(MemoryBackend()), plans=plans, identify=_own))
    found, nobody, broken = (
        run("usage", "-", "--plans", own, "--backend", url, "--json", stdin=key)
        for key in (b"awx_another_key", b"awx_other_key", b"awx_broken_key")
    )

    assert (looked_up.json["subject"], looked_up.json["account"]) == ("eve", "acme")
    assert [one["capacity"] for one in looked_up.json["limits"]] == [90, 40]
    assert found.json["subject"] == "bob"
    assert nobody.err.startswith(
        "error: the app does not identify anyone by the key in X-API-Key; name the subject of the caller instead of '-'"
    )
    assert broken.err.startswith(
        "error: the identifier of the app raised a LookupError for a request to / with the key"
    )
    assert "broken_key" not in broken.err


OWN_IDENTIFIER = "note: these limits are those of the plan table. `identify` of the app may return another plan or "


def _of_a_database(_: Request) -> Caller:
    return Caller("user:3", "starter", account="tiny", overrides={"per_minute": 12})


@pytest.mark.parametrize(
    "words",
    [("account", "tiny"), ("tiny", "--scope", "account"), ("user:3", "--account", "tiny"), ("user:3",)],
)
def test_note_of_an_own_identifier(run: Run, url: str, named: Named, words: tuple[str, ...]) -> None:
    """What code of the app returns for a caller is not known by a name, and a note says so. By a key it is known."""
    parts = {"plans": PlanTable.default(), "limiter": Limiter(MemoryBackend())}
    app = named(Gate(**parts, identify=_of_a_database))  # type: ignore[arg-type]
    by_name = run("usage", *words, "--plans", app, "--backend", url)
    by_key = run("usage", "-", "--plans", app, "--backend", url, "--json", stdin=b"awx_a_key")
    by_table = run("usage", *words, "--backend", url)

    assert f"{OWN_IDENTIFIER}overrides, which need the key: awx-ratelimit usage - prints them" in by_name.err
    assert by_key.json["limits"][0]["capacity"] == 12
    assert "`identify`" not in by_key.err + by_table.err


@pytest.mark.parametrize("words", [("ada",), ("address:192.0.2.1",), ("account", "acme"), ("eve",)])
def test_no_note_of_known_identifiers(run: Run, url: str, app: str, words: tuple[str, ...]) -> None:
    """Callers of an identifier of this library need no key: what it knows by name is all that it returns."""
    assert "`identify`" not in run("usage", *words, "--plans", app, "--backend", url).err


def test_note_of_an_explanation(run: Run, named: Named) -> None:
    """`explain --subject` has the same note, and `explain --key -` has not."""
    app = named(Gate(Limiter(MemoryBackend()), plans=PlanTable.default(), identify=_of_a_database))
    by_name = run("explain", "GET", "/", "--app", app, "--subject", "user:3", "--account", "tiny")
    by_key = run("explain", "GET", "/", "--app", app, "--key", "-", stdin=b"awx_a_key")

    assert f"{OWN_IDENTIFIER}overrides, which need the key: --key - explains them" in by_name.err
    assert "of the plan table" not in by_key.err


def test_whole_key_of_an_app_with_a_store(
    run: Run, url: str, named: Named, service: KeyService, store: KeyStore
) -> None:
    """'-' with an app that looks keys up in a store names the subject that a rotated key has there."""
    old, verifier = service.create("acme", "n").key, KeyVerifier(store)
    new = service.rotate("acme", old.id)
    app = named(Gate(Limiter(MemoryBackend()), plans=PlanTable.default(), identify=StoredKeys(verifier)))
    key = new.secret.reveal().encode()
    found = run("usage", "-", "--plans", app, "--backend", url, "--json", stdin=key)
    service.revoke("acme", new.key.id)
    verifier.poll()
    revoked = run("usage", "-", "--plans", app, "--backend", url, "--json", stdin=key)
    verifier.close()

    assert (found.json["subject"], found.json["account"]) == (old.id, "acme")
    assert revoked.err.startswith("error: the app refuses the key: api_key_revoked; check --plans")


def _as_subject(request: Request) -> Caller:
    return Caller(f"user_{request.header('x-api-key')}", CODE_PLAN)


def _in_words(request: Request) -> Caller:
    raise InvalidLimit(f"bad {request.header('x-api-key')!r}")


def _exits(request: Request) -> Caller:
    sys.exit(f"bad {request.header('x-api-key')}")


async def _exits_later(request: Request) -> Caller:
    return _exits(request)


@pytest.mark.parametrize("key", ["a' SECRET\\secret", KeyFormat().new().reveal()], ids=["any form", "ours"])
@pytest.mark.parametrize("identify", [_as_subject, _in_words, _exits, _exits_later])
@pytest.mark.parametrize("as_json", [(), ("--json",)], ids=["", "json"])
def test_app_that_shows_the_key(
    run: Run,
    url: str,
    named: Named,
    identify: Any,
    key: str,
    as_json: tuple[str, ...],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever an app makes of a key, no output of a command has it."""
    limiter = AsyncLimiter(MemoryBackend()) if identify is _exits_later else Limiter(MemoryBackend())
    kind: Any = AsyncGate if identify is _exits_later else Gate
    app = named(kind(limiter, plans=PlanTable.default(), identify=identify))
    usage = run("usage", "-", "--plans", app, "--backend", url, *as_json, stdin=key.encode())
    explained = run("explain", "GET", "/", "--app", app, "--key", "-", *as_json, stdin=key.encode())
    shown = usage.out + usage.err + explained.out + explained.err + caplog.text

    assert "secret" not in shown.lower()
    assert key[4:20] not in shown
    assert ("user_[the key]" in usage.out and "user_[the key]" in explained.out) or usage.status == 2


def test_short_key(run: Run, url: str) -> None:
    """A short key, as in a test, is not looked for inside words."""
    assert "concurrent" in run("usage", "-", "--backend", url, stdin=b"o").out


class _WithMethod:
    """An app may have a method of this name for anything."""

    def __call__(self, _: Request) -> None:
        return None

    async def caller_named(self, subject: str) -> str:
        return subject


def test_method_of_an_own_identifier(run: Run, url: str, named: Named) -> None:
    """Only identifiers that are made for it are asked for the caller of a subject."""
    app = named(Gate(Limiter(MemoryBackend()), plans=PlanTable.default(), identify=_WithMethod()))
    ran = run("usage", "bob", "--plans", app, "--backend", url, "--json")

    assert (ran.status, ran.json["limits"][0]["capacity"]) == (0, 60)


class _Other:
    """Identifies callers, and has an attribute that StoredKeys has too."""

    verifier = "of signatures"

    def __call__(self, _: Request) -> Caller:
        return Caller("bob")


def test_other_verifier(run: Run, url: str, named: Named) -> None:
    """An identifier of the app's own may have an attribute `verifier` that is no KeyVerifier."""
    app = named(Gate(Limiter(MemoryBackend()), plans=PlanTable.default(), identify=_Other()))
    used = run("usage", "bob", "--plans", app, "--backend", url, "--json")
    explained = run("explain", "GET", "/", "--app", app, "--subject", "bob", "--json")

    assert (used.status, explained.status) == (0, 0)
    assert explained.json["caller"]["subject"] == "bob"


def test_unknown_account_of_an_app(
    run: Run, url: str, named: Named, app: str, service: KeyService, store: KeyStore
) -> None:
    """An account that neither StaticKeys nor the key store of an app has is an error."""
    static = run("usage", "account", "acne", "--plans", app, "--backend", url)
    verifier = KeyVerifier(store)
    stored_app = named(Gate(Limiter(MemoryBackend()), plans=PlanTable.default(), identify=StoredKeys(verifier)))
    of_account, of_subject = (
        run("usage", *words, "--plans", stored_app, "--backend", url)
        for words in (("account", "acne"), ("bob", "--account", "acne"))
    )
    verifier.close()

    assert (static.status, of_account.status, of_subject.status) == (2, 2, 2)
    assert static.err.startswith("error: account: no key of the app has the account 'acne'; name the account of a")
    assert of_account.err == of_subject.err
    assert of_account.err.startswith("error: account: there is no account 'acne'; list the accounts with: awx-ratelimi")


def test_unknown_key_of_an_app(run: Run, url: str, named: Named, service: KeyService, store: KeyStore) -> None:
    """The ID of a key that the store of an app does not have is an error."""
    verifier = KeyVerifier(store)
    app = named(Gate(Limiter(MemoryBackend()), plans=PlanTable.default(), identify=StoredKeys(verifier)))
    unknown = "key_0123456789abcdef"
    used = run("usage", unknown, "--plans", app, "--backend", url)
    words = (("--subject", unknown), ("--key-id", unknown), ("--key-id", unknown, "--account", "acme"))
    explained = [run("explain", "GET", "/", "--app", app, *each) for each in words]
    verifier.close()

    assert used.err.startswith(f"error: no key of this store has the ID '{unknown}'")
    assert [ran.err.partition(";")[0] for ran in explained] == [
        f"error: no key of this store has the ID '{unknown}'",
        f"error: no key of this store has the ID '{unknown}'",
        f"error: the account 'acme' has no key '{unknown}'",
    ]


def test_static_key_as_subject(run: Run, url: str, named: Named) -> None:
    """No message repeats a key that an operator has typed as a subject, and a key of the app is an error."""
    key = "s3cr3t-static-key-0123456789"
    app = named(Gate(Limiter(MemoryBackend()), plans=PlanTable.default(), identify=StaticKeys({key: "starter"})))
    of_app = [
        run("usage", key, "--plans", app, "--backend", url),
        run("explain", "GET", "/", "--app", app, "--subject", key),
    ]
    others = [run("reset", key, "--backend", url), run("usage", key, "--backend", url)]

    assert [ran.status for ran in (*of_app, *others)] == [2, 2, 1, 0]
    said = "subject: is an API key of the app; write the subject of its caller, which awx-ratelimit usage - prints"
    assert [(ran.out, ran.err) for ran in of_app] == [("", f"error: {said}\n")] * 2
    assert all(key not in ran.err for ran in (*of_app, *others))


def test_subject_named_like_an_account(run: Run, url: str, named: Named) -> None:
    """`usage account` takes no key for an account, and --account takes no caller of another account."""
    other = Plan.of("other", per_hour=5, account=Plan.of("rest", per_hour=6))
    keys = StaticKeys({"awx_a": Caller("acme", other, account="rest"), "awx_b": Caller("ada", CODE_PLAN, "acme")})
    app = named(Gate(Limiter(MemoryBackend()), plans=PlanTable.default(), identify=keys))
    account = run("usage", "account", "acme", "--plans", app, "--backend", url, "--json")
    subject = run("usage", "acme", "--account", "acme", "--plans", app, "--backend", url, "--json")

    assert [one["capacity"] for one in account.json["limits"]] == [90]
    assert [one["capacity"] for one in subject.json["limits"]] == [90, 40]


LIMITED_APP = """
from awx_ratelimit import Gate, Limiter, PlanTable, StaticKeys, open_backend

keys = StaticKeys({{"awx_example_key": "growth"}})
gate = Gate(Limiter(open_backend("host://{folder}/of_app")), plans=PlanTable.default(), identify=keys)
"""


@pytest.mark.parametrize("command", ["usage", "explain"])
def test_file_of_an_app(run: Run, url: str, tmp_path: Path, module: Module, command: str) -> None:
    """A command that imports an app creates no file for it, and sees a missing one as unused limits."""
    app = f"{module(LIMITED_APP.format(folder=tmp_path))}:gate"
    words = ["-", "--plans", app, "--backend", url] if command == "usage" else ["GET", "/", "--app", app, "--key", "-"]
    ran = run(command, *words, "--json", stdin=b"awx_example_key")
    limits = ran.json["limits"] if command == "usage" else ran.json["budgets"][0]["limits"]

    assert [one["remaining"] for one in limits] == [300, 100_000, 25]
    assert not (tmp_path / "of_app").exists()


def test_plan_table_in_code(run: Run, url: str, named: Named, keys: Run, service: KeyService) -> None:
    """--plans may name a PlanTable, also to check the plan of an account."""
    table = named(PlanTable([PUBLIC], default="public"))
    ran = run("usage", "bob", "--plans", table, "--backend", url, "--json")
    unknown = keys("set-plan", "golden", "--account", "acme", "--plans", table)

    assert [one["capacity"] for one in ran.json["limits"]] == [3]
    assert "there is no plan 'golden'; allowed are public" in unknown.err


def test_no_plans_in_code(run: Run, url: str, named: Named) -> None:
    """Something else than an app or a table is an error that names the option."""
    ran = run("usage", "bob", "--plans", named("text"), "--backend", url)

    assert ran.status == 2
    assert ran.err.startswith("error: --plans: expected an app with a rate limit middleware, a middleware or a gate")
