"""What is wrong with a server, or with how it is named, is said at the start and says what to do."""

import asyncio
import logging
import re
import socket
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.integration.conftest import OpenLimiter
from tests.processes import free_port
from tests.redis_servers import HOST, RedisServer, StartRedis, running_redis

from awx_ratelimit import BackendUnavailable, Plan
from awx_ratelimit.backends.redis import AsyncRedisBackend, RedisBackend
from awx_ratelimit.backends.redis.routing import route_to
from awx_ratelimit.errors import BackendMisconfigured

PLAN = Plan.of("start", per_minute=10, concurrent=2)
SECRET = "s3cr3t-passw0rd"
#: Each may do all but one thing that is needed.
USERS = [
    f"{name} on >{SECRET} {rules}"
    for name, rules in {
        "scriptless": "~awx:* +@all -@scripting",
        "writeless": "~awx:* +@all -set",
        "readless": "~awx:* +@all -get",
        "keyless": "~other:* +@all",
        "helpless": "+@connection",
    }.items()
]
GREETING = b"\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n6.2.14\r\n$5\r\nproto\r\n:3\r\n"
NEEDED = "allow its user ~awx:* +eval +evalsha +time +get +set +del"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server with a password, and with users who may not do what is needed."""
    with running_redis(tmp_path_factory.mktemp("redis"), password=SECRET, users=USERS) as server:
        yield server


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize(
    ("credentials", "what"),
    [
        (f":{SECRET}-not@", "check user and password"),
        ("", "check user and password"),
        (f"bob:{SECRET}@", "check user and password"),
        (f"scriptless:{SECRET}@", NEEDED),
        (f"writeless:{SECRET}@", NEEDED),
        (f"readless:{SECRET}@", NEEDED),
        (f"keyless:{SECRET}@", NEEDED),
    ],
    ids=["wrong password", "no password", "unknown user", "no scripts", "no writing", "no reading", "other keys"],
)
def test_a_server_that_refuses_the_user_is_an_error_that_says_what_to_allow(
    guarded: RedisServer, open_limiter: OpenLimiter, credentials: str, what: str, protocol: int
) -> None:
    """BackendMisconfigured where the backend is made; no password stands in the error or in what it came from."""
    with pytest.raises(BackendMisconfigured) as error:
        open_limiter(f"redis://{credentials}{HOST}:{guarded.port}?protocol={protocol}")

    said = "".join(traceback.format_exception(error.value))
    assert f"redis at {HOST}:{guarded.port}: {what}" in str(error.value)
    assert SECRET not in said


@pytest.mark.parametrize("db", [0, 3])
def test_what_the_error_says_to_allow_is_enough(guarded: RedisServer, open_limiter: OpenLimiter, db: int) -> None:
    """A user who may do what the error names, and nothing else, can decide, release, refund and reset."""
    url = f"redis://helpless:{SECRET}@{HOST}:{guarded.port}/{db}"
    with pytest.raises(BackendMisconfigured) as error:
        open_limiter(url)
    rules = re.findall(r"[~+]\S+", str(error.value))
    with guarded.client() as client:
        client.execute_command("ACL", "SETUSER", f"helped{db}", "reset", "on", f">{SECRET}", *rules)

    limiter = open_limiter(url.replace("helpless", f"helped{db}"))
    decision = limiter.acquire("s", PLAN)
    limiter.release(decision)
    limiter.refund(decision)
    limiter.renew_leases()
    limiter.reset("s")
    assert decision.allowed is True
    assert limiter.health()["state"] == "ok"


def test_a_database_that_is_not_there_is_an_error(redis_server: RedisServer, open_limiter: OpenLimiter) -> None:
    """The number of the database is checked where the backend is made."""
    with pytest.raises(BackendMisconfigured, match="it has no database of that number"):
        open_limiter(f"{redis_server.url}/99")


def test_a_replica_is_an_error_and_its_health_says_so(start_redis: StartRedis, open_limiter: OpenLimiter) -> None:
    """A replica answers what changes nothing: it is found out all the same, at the start and after a failover."""
    master, later = start_redis(), start_redis()
    replica = start_redis(replica_of=master)
    limiter = open_limiter(later.url)
    with later.client() as client:
        client.replicaof(HOST, master.port)

    with pytest.raises(BackendMisconfigured, match="it is a read-only replica: name its primary"):
        open_limiter(replica.url)
    assert "it is a read-only replica: name its primary" in limiter.health()["state"]


@contextmanager
def answering(*answers: bytes) -> Iterator[int]:
    """A server of the test's own, which answers the first command with the first of `answers`, and so on."""
    with socket.create_server((HOST, 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                for answer in answers:
                    connection.recv(65536)
                    connection.sendall(answer)
                connection.recv(65536)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        thread.join()


@pytest.mark.parametrize(
    ("protocol", "answers"),
    [(2, [b"*6" + GREETING]), (3, [b"%3" + GREETING, b"%3" + GREETING])],
)
def test_a_server_that_is_too_old_is_an_error(open_limiter: OpenLimiter, protocol: int, answers: list[bytes]) -> None:
    """Its greeting says its version; the error says which is needed."""
    with answering(*answers) as port, pytest.raises(BackendMisconfigured) as error:
        open_limiter(f"redis://{HOST}:{port}?protocol={protocol}")

    assert str(error.value) == f"redis at {HOST}:{port} is version 6.2.14; 7.0 or newer is needed"


def test_a_server_that_does_not_know_the_greeting_is_too_old(open_limiter: OpenLimiter) -> None:
    """Redis 5 has no HELLO."""
    refusal = b"-ERR unknown command `HELLO`, with args beginning with: `3`, \r\n"

    with answering(refusal) as port, pytest.raises(BackendMisconfigured, match=r"it is too old: 7\.0 or newer"):
        open_limiter(f"redis://{HOST}:{port}")


@pytest.mark.parametrize(
    "refusal",
    [
        b"-ERR unknown command 'HELLO', with args beginning with: '3' \r\n",
        b"-ERR unsupported command 'hello'\r\n",
        b"-NOPROTO unsupported protocol version\r\n",
    ],
)
def test_a_proxy_that_does_not_know_the_greeting_is_told_apart(open_limiter: OpenLimiter, refusal: bytes) -> None:
    """The error names the option that makes a proxy without HELLO usable."""
    with answering(refusal) as port, pytest.raises(BackendMisconfigured) as error:
        open_limiter(f"redis://{HOST}:{port}")

    assert "If it is a proxy, add ?protocol=2 to the URL; if a server, it is too old" in str(error.value)


def test_without_the_greeting_limits_work_by_the_older_protocol(
    start_redis: StartRedis, open_limiter: OpenLimiter
) -> None:
    """A server without HELLO says what to add to its URL, and with that it decides."""
    server = start_redis(options=["--rename-command HELLO ''"])
    with pytest.raises(BackendMisconfigured, match=r"add \?protocol=2 to the URL"):
        open_limiter(server.url)

    limiter = open_limiter(f"{server.url}?protocol=2")
    held = limiter.acquire("s", PLAN)
    limiter.give_back(held)
    assert held.allowed
    assert limiter.health()["state"] == "ok"


def test_without_the_greeting_the_map_of_a_cluster_is_read() -> None:
    """By the older protocol it does not matter that HELLO is refused."""
    refusal = b"-ERR unknown command 'HELLO'\r\n"
    slots = b"*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:7000\r\n"
    with answering(refusal, slots) as port:
        found = route_to(f"redis+cluster://{HOST}:{port}?protocol=2", timeout_ms=5_000, prefix="awx").find_server(
            b"awx:{s}"
        )

    assert found.name == "127.0.0.1:7000"


def test_a_server_that_cannot_compile_the_scripts_is_too_old(open_limiter: OpenLimiter) -> None:
    """Before 7.0 a script does not say by which rules it runs, and without HELLO the version is not known."""
    refusals = [
        b"-ERR unknown command 'HELLO'\r\n",
        b"-NOSCRIPT No matching script. Please use EVAL.\r\n" * 2,
        b"-ERR Error compiling script (new function): user_script:1: unexpected symbol near '#'\r\n" * 2,
    ]
    with answering(*refusals) as port, pytest.raises(BackendMisconfigured, match=r"it is too old: 7\.0 or newer"):
        open_limiter(f"redis://{HOST}:{port}?protocol=2")


@pytest.mark.parametrize("version", [b"255.255.255", b"valkey-8", b""])
def test_a_version_that_is_new_or_unknown_is_none_too_old(redis_server: RedisServer, version: bytes) -> None:
    """Builds of another numbering are tried, not refused."""
    RedisBackend.from_url(redis_server.url)._options[0].find_server(b"").check_greeting({b"version": version})


def test_a_server_that_cannot_be_reached_is_a_warning_and_heals(
    start_redis: StartRedis, open_limiter: OpenLimiter, caplog: pytest.LogCaptureFixture
) -> None:
    """It may come up later: the first decision raises BackendUnavailable with its address, and then all is well."""
    port = free_port()
    with caplog.at_level(logging.WARNING, "awx_ratelimit"):
        limiter = open_limiter(f"redis://:{SECRET}@{HOST}:{port}")

    with pytest.raises(BackendUnavailable, match=f"redis at {HOST}:{port}: "):
        limiter.acquire("s", PLAN)
    start_redis(port=port, password=SECRET)
    assert limiter.acquire("s", PLAN).allowed is True
    assert f"{HOST}:{port}" in caplog.text
    assert SECRET not in caplog.text


def test_within_an_event_loop_the_first_claim_says_what_is_wrong(guarded: RedisServer) -> None:
    """Nothing is asked of the server, which would block the loop; the first claim raises the same error."""

    async def first() -> None:
        backend = AsyncRedisBackend.from_url(f"redis://bob:{SECRET}@{HOST}:{guarded.port}")
        try:
            await backend.acquire("s", PLAN, 1)
        finally:
            await backend.close()

    with pytest.raises(BackendMisconfigured, match="check user and password"):
        asyncio.run(first())


def test_a_server_whose_memory_is_full_says_so(start_redis: StartRedis, open_limiter: OpenLimiter) -> None:
    """Where it evicts nothing, claims raise BackendUnavailable with the reason, health has it, and it heals."""
    server = start_redis()
    limiter = open_limiter(server.url)
    with server.client() as client:
        client.config_set("maxmemory", 1)
        with pytest.raises(BackendUnavailable, match="has reached its maxmemory") as error:
            limiter.acquire("s", PLAN)
        state = limiter.health()["state"]
        client.config_set("maxmemory", 0)

    assert not isinstance(error.value, BackendMisconfigured)
    assert "has reached its maxmemory" in state
    assert limiter.acquire("s", PLAN).allowed


@pytest.mark.parametrize("backend", [RedisBackend, AsyncRedisBackend])
@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("localhost:6379", "expected one of the schemes redis, rediss"),
        ("http://localhost", "expected one of the schemes redis, rediss"),
        ("redis:localhost", "%25 %40; got no server"),
        (
            "redis://localhost:x",
            "%25 %40; got one that cannot be parsed",
        ),
        (
            "redis://localhost:70000",
            "%25 %40; got one that cannot be parsed",
        ),
        ("redis://[::1", "%25 %40; got one that cannot be parsed"),
        ("redis://localhost/prod", "%25 %40; got no server"),
        ("redis://localhost#1", "%25 %40; got no server"),
        ("redis+unix://", "%25 %40; got no server"),
        ("redis+unix://socket", "%25 %40; got no server"),
        ("redis://localhost?protocol=4", "protocol: expected 2 or 3, got '4'"),
        ("redis://localhost?db=first", "db: expected a whole number, got 'first'"),
        ("redis://localhost?db=", "db: expected a whole number, got ''"),
        (
            "redis://localhost?socket_timeout=20",
            "got option 'socket_timeout'; expected one of protocol, db, and in open_backend",
        ),
        (
            "redis://localhost?retry_on_timeout=true",
            "got option 'retry_on_timeout'; expected one of protocol, db, and in open_backend",
        ),
        ("redis://localhost?ssl_ca_certs=/", "got option 'ssl_ca_certs' (only with rediss://); expected one of"),
        ("rediss://localhost?ssl_ca_certs=/nowhere", "ssl_ca_certs, ssl_certfile or ssl_keyfile cannot be read"),
        ("rediss://localhost?ssl_cert_reqs=never", "expected none or optional or required"),
        (
            f"redis://:{SECRET}/@localhost",
            "%25 %40; got one that cannot be parsed",
        ),
        (
            f"redis://:{SECRET}#@localhost",
            "%25 %40; got one that cannot be parsed",
        ),
        (f"redis://:1?{SECRET}@localhost", "got an unknown option; expected one of protocol, db"),
        (f"redis://:1?{SECRET}=1&a=2@localhost", "got an unknown option; expected one of protocol, db"),
        (f"redis://localhost?db={SECRET}@", "db: expected a whole number"),
        (
            f"redis://:{SECRET}\u2100@localhost",
            "%25 %40; got one that cannot be parsed",
        ),
    ],
)
def test_a_url_of_no_server_is_a_value_error(
    backend: type[RedisBackend | AsyncRedisBackend], url: str, what: str
) -> None:
    """The error says what is allowed, and repeats no password. What would change how calls are sent is no option."""
    with pytest.raises(ValueError, match=re.escape(what)) as error:
        backend.from_url(url)

    assert SECRET not in "".join(traceback.format_exception(error.value))


@pytest.mark.parametrize("timeout_ms", [0, -1, 0.5, True, "50", None])
def test_a_timeout_is_a_whole_number(timeout_ms: int) -> None:
    """Anything else is a ValueError that says so."""
    with pytest.raises(ValueError, match=r"timeout_ms: expected an integer >= 1"):
        RedisBackend.from_url("redis://localhost", timeout_ms=timeout_ms)


@pytest.mark.parametrize("prefix", ["a{b", "a}b", "x" * 65])
def test_a_prefix_is_short_and_without_braces(prefix: str) -> None:
    """Anything else is a ValueError that says so."""
    with pytest.raises(ValueError, match="expected at most 64 bytes without braces"):
        RedisBackend.from_url("redis://localhost", prefix=prefix)
