"""URLs of databases that are wrong, and hosts that do not answer."""

import asyncio
import logging
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.integration.conftest import OpenLimiter
from tests.machine import eventually, timed
from tests.postgres_servers import Postgres

from awx_ratelimit import BackendUnavailable, Limiter, Plan
from awx_ratelimit.backends.open import examine, open_backend
from awx_ratelimit.backends.postgres import AsyncPostgresBackend, PostgresBackend
from awx_ratelimit.backends.postgres.remedies import remedy_for, short_text
from awx_ratelimit.backends.resilience.guarded_sync import GuardedBackend
from awx_ratelimit.errors import BackendMisconfigured

PLAN = Plan.of("p", per_minute=100, concurrent=10)
SECRET = "s3cr3t"
#: At the start, a host has half a second to accept a connection.
START_S = 0.5


@pytest.fixture
def url(postgres: Postgres) -> Iterator[str]:
    """A new database."""
    name = postgres.new_database()
    yield postgres.url(name)
    postgres.drop(name)


@pytest.fixture(params=["silent", "drops packets"])
def hanging_port(request: pytest.FixtureRequest) -> Iterator[int]:
    """A port that accepts connections and never answers, or does not even accept them."""
    with ExitStack() as opened:
        listener = opened.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        port: int = listener.getsockname()[1]
        for _ in range(4 if request.param == "drops packets" else 0):
            waiting = opened.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        yield port


def attempted(limiter: Any, subject: str = "s") -> Any:
    try:
        return limiter.acquire(subject, PLAN)
    except BackendUnavailable as error:
        return error


def test_a_host_that_hangs(hanging_port: int, open_limiter: OpenLimiter, caplog: pytest.LogCaptureFixture) -> None:
    """A backend is made in half a second, claims fail within the timeout, and no thread stays."""
    before = threading.active_count()
    with timed() as making, caplog.at_level(logging.WARNING):
        limiter = open_limiter(f"postgresql://user@127.0.0.1:{hanging_port}/db", timeout_ms=100)
    with timed() as claiming:
        outcomes = [attempted(limiter) for _ in range(3)]
    limiter.close()

    # The thread of the event loop, those that it opens connections in, and the one that renews leases.
    after = eventually(lambda: threading.active_count() <= before + 4, expected=True)
    assert making.seconds < making.limit(START_S + 0.5)
    assert claiming.seconds < claiming.limit(3 * 0.1 + 0.3)
    assert {type(outcome) for outcome in outcomes} == {BackendUnavailable}
    assert "did not answer within 100 ms" in str(outcomes[0])
    assert "no decision yet" in caplog.text
    assert after is True


def test_the_first_host_hangs(postgres: Postgres, url: str, hanging_port: int, open_limiter: OpenLimiter) -> None:
    """If the first of two hosts hangs, the other one decides, at the start and later."""
    database = url.partition("@/")[2].partition("?")[0]
    both = f"postgresql://awx@/{database}?host=127.0.0.1,{postgres.folder}&port={hanging_port},5432"
    with timed() as making:
        limiter = open_limiter(both, timeout_ms=1_000)
    allowed = [limiter.acquire("s", PLAN).allowed for _ in range(2)]

    limiter.close()
    assert making.seconds < making.limit(2)
    assert allowed == [True, True]


def test_a_guard_of_a_host_that_hangs(hanging_port: int) -> None:
    """The circuit breaker opens after five claims, and then a claim costs no time."""
    backend = PostgresBackend.from_url(f"postgresql://user@127.0.0.1:{hanging_port}/db", timeout_ms=20)
    limiter = Limiter(GuardedBackend(backend, budget_ms=20))
    with timed() as watch:
        allowed = [limiter.acquire("s", PLAN).allowed for _ in range(8)]

    outages = limiter.health()["outages"]
    limiter.close()
    assert allowed == [True] * 8
    assert outages == 1
    assert watch.seconds < watch.limit(0.5)


@pytest.fixture
def user(postgres: Postgres, url: str) -> Iterator[str]:
    """The name of a user who needs a password."""
    rules = Path(postgres.folder, "data", "pg_hba.conf")
    before = rules.read_text("ascii")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE careful LOGIN PASSWORD '{SECRET}'".encode())
        rules.write_text(f"local all careful scram-sha-256\n{before}", "ascii")
        connection.execute("SELECT pg_reload_conf()")
        yield "careful"
        rules.write_text(before, "ascii")
        connection.execute("SELECT pg_reload_conf()")
        connection.execute("DROP ROLE careful")


def test_a_wrong_password(url: str, user: str) -> None:
    """It is one clear error when the backend is made, and neither the error nor the doctor's rows have the password."""
    wrong = url.replace("awx@", f"{user}:{SECRET}wrong@")

    # The server reads its rules again a moment later.
    is_refused = eventually(lambda: isinstance(refused(wrong), BackendMisconfigured), expected=True)
    message = str(refused(wrong))
    rows = [str(row) for row in examine(wrong)]

    assert is_refused is True
    assert "; correct user and password in the URL, or create the user: CREATE ROLE" in message
    assert "correct user" in rows[0]
    assert SECRET not in message + "".join(rows)


@pytest.fixture
def locked_out(url: str) -> Iterator[str]:
    """The name of a role that may not log in."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE ROLE group_only NOLOGIN")
        yield "group_only"
        connection.execute("DROP ROLE group_only")


def test_what_is_missing(url: str, locked_out: str) -> None:
    """A missing database or role, and a role that may not log in, are errors with the SQL that mends them."""
    database = re.search("/(keys_[0-9]+)", url)[1]  # type: ignore[index]
    said = [
        str(refused(wrong)).partition(": ")[2]
        for wrong in (
            url.replace(database, "limitz"),
            url.replace("awx@", "zed@"),
            url.replace("awx@", f"{locked_out}@"),
        )
    ]

    assert said == [
        'database "limitz" does not exist; create it: CREATE DATABASE "limitz", or name another one in the URL: '
        "postgresql://user@host/database",
        'role "zed" does not exist; create it: CREATE ROLE "zed" LOGIN PASSWORD \'...\', or correct the user '
        "in the URL",
        'role "group_only" is not permitted to log in; allow it: ALTER ROLE "group_only" LOGIN',
    ]


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ('role "a"b; DROP" does not exist', 'CREATE ROLE "a""b; DROP" LOGIN'),
        ('role "a"b" is not permitted to log in', 'ALTER ROLE "a""b" LOGIN'),
        ('database "{a"" does not exist', 'CREATE DATABASE "{a""",'),
    ],
)
def test_quotes_in_names(said: str, advice: str) -> None:
    """The SQL that mends an error names what the error names, whatever characters it has."""
    assert advice in remedy_for("", said, "awx")


def test_text_without_the_address() -> None:
    """Errors do not repeat the address that the name of the server has. A socket has its path."""
    texts = [
        'connection failed: connection to server at "db" (10.0.0.1), port 5432 failed: FATAL:  no such thing',
        'connection to server at "::1", port 5432 failed: Connection refused',
        'connection is bad: connection to server on socket "/nope/.s.PGSQL.5432" failed: No such file or directory',
        "FATAL:  no such thing",
    ]

    assert [short_text(psycopg.OperationalError(text)) for text in texts] == [
        "no such thing",
        "Connection refused",
        'connection to server on socket "/nope/.s.PGSQL.5432" failed: No such file or directory',
        "no such thing",
    ]


def refused(url: str) -> Exception | None:
    try:
        PostgresBackend.from_url(url, timeout_ms=10_000).close()
    except Exception as error:
        return error
    return None


@pytest.mark.parametrize("rest", ["bob:pa/ss@host/db", "bob:pa@ss:70001,x:y@host/db"])
def test_a_port_that_may_be_a_password(rest: str) -> None:
    """The error has its prefix once, and says how to write the password."""
    with pytest.raises(ValueError, match=r"^postgresql URL: port: .* 65535; write each of / # \? % @ in a password as"):
        open_backend(f"postgresql://{rest}")


@pytest.mark.parametrize(
    "rest",
    [
        f"user:{SECRET}/x@host/db",
        f"user:x@{SECRET}@host/db",
        f"user:{SECRET}/1@host:port/db",
        f"user:{SECRET}@host:70000/db",
        f"user:{SECRET}@host/db?sslmod=require",
        f"user:{SECRET}%zz@host/db",
        f"user:x@ss:{SECRET}@host:5432/db",
        f"user:x@ss:{SECRET}#x@host/db",
        f"user:{SECRET}",
        f"user:x@ss:70001,{SECRET}@host/db",
    ],
)
@pytest.mark.parametrize("make", [open_backend, PostgresBackend.from_url])
def test_no_password_in_errors(make: Callable[[str], object], rest: str) -> None:
    """A URL that is wrong, perhaps because of its password, is an error that does not repeat the password."""
    with pytest.raises(ValueError, match="postgresql URL: ") as caught:
        make(f"postgresql://{rest}")

    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("password", [f"{SECRET}?x", f"x?{SECRET}"])
def test_a_question_mark_in_a_password(password: str) -> None:
    """What follows it looks like options. The error says how to write it, and not what it is."""
    with pytest.raises(ValueError, match=r"write each of / # \? % @ in a password as %2F") as caught:
        open_backend(f"postgresql://user:{password}@host/db")

    assert SECRET not in str(caught.value)


def test_no_password_in_a_backend() -> None:
    """What a backend shows of itself, and the state of its health, do not have the password."""
    url = f"postgresql://user:{SECRET}@127.0.0.1:1/db?sslmode=disable"
    backend = PostgresBackend.from_url(url, timeout_ms=100)

    async def state() -> str:
        in_tasks = AsyncPostgresBackend.from_url(url, timeout_ms=100)
        health = await in_tasks.health()
        await in_tasks.close()
        return f"{in_tasks!r} {in_tasks.home('s')!r} {health}"

    shown = f"{backend!r} {backend.home('s')!r} {backend.health()} {vars(backend)} {asyncio.run(state())}"
    backend.close()
    assert "127.0.0.1:1/db" in shown
    assert SECRET not in shown


def test_a_value_that_no_option_has() -> None:
    """A wrong value of an option is an error when the backend is made."""
    with pytest.raises(BackendMisconfigured, match=r": invalid sslmode value: \"maybe\"; correct this option"):
        PostgresBackend.from_url("postgresql://user@127.0.0.1:1/db?sslmode=maybe")
