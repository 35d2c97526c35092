"""Errors about a server or its URL are raised at the start and say what to do."""

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

from awx_ratelimit import AsyncLimiter, BackendUnavailable, Plan
from awx_ratelimit.backends.open import open_async_backend
from awx_ratelimit.backends.redis import AsyncRedisBackend, RedisBackend
from awx_ratelimit.backends.redis.routing import route_to
from awx_ratelimit.core.budget import Budget
from awx_ratelimit.core.joint_claim import joint_claim
from awx_ratelimit.errors import BackendMisconfigured

PLAN = Plan.of("start", per_minute=10, concurrent=2)
MANY = Plan.of("many", per_minute=100)
SECRET = "s3cr3t-passw0rd"
#: Each user lacks one permission that is needed.
USERS = [
    f"{name} on >{SECRET} {rules}"
    for name, rules in {
        "scriptless": "~awx:* +@all -@scripting",
        "writeless": "~awx:* +@all -set",
        "hashless": "~awx:* +@all -hset",
        "readless": "~awx:* +@all -mget",
        "keyless": "~other:* +@all",
        "helpless": "+@connection",
    }.items()
]
GREETING = b"\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n6.2.14\r\n$5\r\nproto\r\n:3\r\n"
NEEDED = "allow its user ~awx:* +eval +evalsha +time +mget +set +del +exists +hget +hset +hdel +pexpire"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server with a password, and with users who lack a permission."""
    with running_redis(tmp_path_factory.mktemp("redis"), password=SECRET, users=USERS) as server:
        yield server


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize(
    ("credentials", "what"),
    [
        (f":{SECRET}-not@", "; correct the password in the URL, or name its user: redis://user:password@host:6379"),
        ("", "it needs a password; write redis://:password@host:6379 or redis://user:password@host:6379"),
        (f"bob:{SECRET}@", "; correct user and password in the URL"),
        (f"scriptless:{SECRET}@", NEEDED),
        (f"writeless:{SECRET}@", NEEDED),
        (f"hashless:{SECRET}@", NEEDED),
        (f"readless:{SECRET}@", NEEDED),
        (f"keyless:{SECRET}@", NEEDED),
    ],
    ids=[
        "wrong password",
        "no password",
        "unknown user",
        "no scripts",
        "no writing",
        "no hashes",
        "no reading",
        "other keys",
    ],
)
def test_missing_permission(
    guarded: RedisServer, open_limiter: OpenLimiter, credentials: str, what: str, protocol: int
) -> None:
    """The error at the start names the permission; neither it nor its cause contains a password."""
    with pytest.raises(BackendMisconfigured) as error:
        open_limiter(f"redis://{credentials}{HOST}:{guarded.port}?protocol={protocol}")

    said = "".join(traceback.format_exception(error.value))
    assert str(error.value).startswith(f"redis at {HOST}:{guarded.port}: ")
    assert str(error.value).endswith(what)
    assert SECRET not in said


@pytest.mark.parametrize("db", [0, 3])
def test_permissions(guarded: RedisServer, open_limiter: OpenLimiter, db: int) -> None:
    """A user with exactly the permissions that the error names can decide, release, settle and reset."""
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
    declared = joint_claim((Budget("s", MANY),), 1, declared=True)
    for each in [limiter.claim_jointly(declared) for _ in range(33)]:
        limiter.settle(each, 2)
    limiter.renew_leases()
    limiter.reset("s")
    assert decision.allowed is True
    assert limiter.health()["state"] == "ok"


def test_missing_database(redis_server: RedisServer, open_limiter: OpenLimiter) -> None:
    """An invalid number of the database is an error at the start."""
    with pytest.raises(
        BackendMisconfigured, match=r": it has no database 99; correct the number in the URL\. A server"
    ):
        open_limiter(f"{redis_server.url}/99")


@pytest.mark.parametrize(
    ("protocol", "what"),
    [(2, "; remove the password from the URL"), (3, "; correct user and password in the URL")],
)
def test_login_without_need(redis_server: RedisServer, open_limiter: OpenLimiter, protocol: int, what: str) -> None:
    """A user or a password for a server that has none is an error at the start that says what to change."""
    user = "" if protocol == 2 else "bob"

    with pytest.raises(BackendMisconfigured, match=what):
        open_limiter(f"redis://{user}:{SECRET}@{HOST}:{redis_server.port}?protocol={protocol}")


def test_password_as_a_user(guarded: RedisServer, open_limiter: OpenLimiter) -> None:
    """A password without the colon before it is a user, and the error shows the colon."""
    with pytest.raises(
        BackendMisconfigured, match="or redis://:password@host:6379 for a password without a user"
    ) as error:
        open_limiter(f"redis://{SECRET}@{HOST}:{guarded.port}?protocol=3")

    assert SECRET not in "".join(traceback.format_exception(error.value))


@pytest.mark.parametrize("protocol", [2, 3])
def test_scheme_for_tls(start_redis: StartRedis, open_limiter: OpenLimiter, protocol: int) -> None:
    """A URL with TLS for a server without it, and the reverse, are errors at the start that name the scheme."""
    plain, encrypted = start_redis(), start_redis(tls=True)

    with pytest.raises(BackendMisconfigured, match="it does not use TLS; write redis instead of rediss in the URL"):
        open_limiter(f"rediss://{HOST}:{plain.port}?protocol={protocol}")
    with pytest.raises(BackendMisconfigured, match="it uses TLS; write rediss instead of redis in the URL"):
        open_limiter(f"redis://{HOST}:{encrypted.port}?protocol={protocol}")


def test_server_that_needs_a_password_has_no_tls(guarded: RedisServer, open_limiter: OpenLimiter) -> None:
    """What matters first is the scheme, even if the server refuses to answer without a password."""
    with pytest.raises(BackendMisconfigured, match="it does not use TLS"):
        open_limiter(f"rediss://:{SECRET}@{HOST}:{guarded.port}")


def test_another_kind_of_server(open_limiter: OpenLimiter, caplog: pytest.LogCaptureFixture) -> None:
    """A server that is no Redis may be one later: the log says what to correct."""
    with answering(b"HTTP/1.1 400 Bad Request") as port, caplog.at_level(logging.WARNING, "awx_ratelimit"):
        open_limiter(f"redis://{HOST}:{port}")

    assert [text for text in caplog.messages if "; start it, or correct its address in the URL. Until it" in text]


def test_replica(start_redis: StartRedis, open_limiter: OpenLimiter) -> None:
    """A replica is an error at the start and after a failover, although it answers reads."""
    master, later = start_redis(), start_redis()
    replica = start_redis(replica_of=master)
    limiter = open_limiter(later.url)
    with later.client() as client:
        client.replicaof(HOST, master.port)

    with pytest.raises(BackendMisconfigured, match="it is a read-only replica; name its primary in the URL"):
        open_limiter(replica.url)
    assert "it is a read-only replica; name its primary" in limiter.health()["state"]


@contextmanager
def answering(*answers: bytes) -> Iterator[int]:
    """A fake server that answers the first command with the first of `answers`, and so on."""
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
    ("protocol", "answer"),
    [(2, b"*6" + GREETING), (3, b"%3" + GREETING)],
)
def test_old_server(open_limiter: OpenLimiter, protocol: int, answer: bytes) -> None:
    """The error names the version of the server and the version that is needed."""
    with answering(answer) as port, pytest.raises(BackendMisconfigured) as error:
        open_limiter(f"redis://{HOST}:{port}?protocol={protocol}")

    assert str(error.value) == f"redis at {HOST}:{port} is version 6.2.14; 7.0 or newer is needed"


def test_server_without_hello(open_limiter: OpenLimiter) -> None:
    """Redis 5, which has no HELLO, is too old."""
    refusal = b"-ERR unknown command `HELLO`, with args beginning with: `3`, \r\n"

    with answering(refusal) as port, pytest.raises(BackendMisconfigured, match=r"it is too old[;:] 7\.0 or newer"):
        open_limiter(f"redis://{HOST}:{port}")


@pytest.mark.parametrize(
    "refusal",
    [
        b"-ERR unknown command 'HELLO', with args beginning with: '3' \r\n",
        b"-ERR unsupported command 'hello'\r\n",
        b"-NOPROTO unsupported protocol version\r\n",
    ],
)
def test_proxy_without_hello(open_limiter: OpenLimiter, refusal: bytes) -> None:
    """The error names the option for a proxy without HELLO."""
    with answering(refusal) as port, pytest.raises(BackendMisconfigured) as error:
        open_limiter(f"redis://{HOST}:{port}")

    assert "; if it is a proxy, add ?protocol=2 to the URL; if a server, it is too old" in str(error.value)


def test_protocol_2(start_redis: StartRedis, open_limiter: OpenLimiter) -> None:
    """A server without HELLO works with the option that the error names."""
    server = start_redis(options=["--rename-command HELLO ''"])
    with pytest.raises(BackendMisconfigured, match=r"add \?protocol=2 to the URL"):
        open_limiter(server.url)

    limiter = open_limiter(f"{server.url}?protocol=2")
    held = limiter.acquire("s", PLAN)
    limiter.give_back(held)
    assert held.allowed
    assert limiter.health()["state"] == "ok"


def test_protocol_2_on_a_cluster() -> None:
    """With the older protocol a cluster's map is read without HELLO."""
    refusal = b"-ERR unknown command 'HELLO'\r\n"
    slots = b"*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:7000\r\n"
    with answering(refusal, slots) as port:
        found = route_to(f"redis+cluster://{HOST}:{port}?protocol=2", timeout_ms=5_000, prefix="awx").find_server(
            b"awx:{s}"
        )

    assert found.name == "127.0.0.1:7000"


def test_server_that_cannot_compile_scripts(open_limiter: OpenLimiter) -> None:
    """A server that does not know the scripts' flags is older than 7.0, even if it reports no version."""
    refusals = [
        b"-ERR unknown command 'HELLO'\r\n",
        b"-NOSCRIPT No matching script. Please use EVAL.\r\n" * 4,
        b"-ERR Error compiling script (new function): user_script:1: unexpected symbol near '#'\r\n" * 4,
    ]
    with answering(*refusals) as port, pytest.raises(BackendMisconfigured, match=r"it is too old[;:] 7\.0 or newer"):
        open_limiter(f"redis://{HOST}:{port}?protocol=2")


@pytest.mark.parametrize("version", [b"255.255.255", b"valkey-8", b""])
def test_unknown_version(redis_server: RedisServer, version: bytes) -> None:
    """Servers with an unknown numbering of versions are tried, not refused."""
    RedisBackend.from_url(redis_server.url)._options[0].find_server(b"").check_greeting({b"version": version})


def test_unreachable_server(
    start_redis: StartRedis, open_limiter: OpenLimiter, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that is down is a warning at the start; claims raise BackendUnavailable until it is up."""
    port = free_port()
    with caplog.at_level(logging.WARNING, "awx_ratelimit"):
        limiter = open_limiter(f"redis://:{SECRET}@{HOST}:{port}")

    with pytest.raises(BackendUnavailable, match=f"redis at {HOST}:{port}: "):
        limiter.acquire("s", PLAN)
    start_redis(port=port, password=SECRET)
    assert limiter.acquire("s", PLAN).allowed is True
    assert f"{HOST}:{port}" in caplog.text
    assert SECRET not in caplog.text


def test_start_in_an_event_loop(guarded: RedisServer) -> None:
    """Within an event loop the first claim raises the error, because a check at the start would block the loop."""

    async def first() -> None:
        backend = AsyncRedisBackend.from_url(f"redis://bob:{SECRET}@{HOST}:{guarded.port}", timeout_ms=5_000)
        try:
            await backend.acquire("s", PLAN, 1)
        finally:
            await backend.close()

    with pytest.raises(BackendMisconfigured, match="; correct user and password in the URL"):
        asyncio.run(first())


def test_start_of_a_guard_in_an_event_loop(guarded: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """A guard decides the first claim meanwhile, and the log says at once what to correct, once."""

    async def decided() -> bool:
        limiter = AsyncLimiter(open_async_backend(f"redis://:{SECRET}-not@{HOST}:{guarded.port}?budget_ms=5000"))
        allowed = [(await limiter.acquire("s", MANY)).allowed for _ in range(3)]
        await limiter.aclose()
        return all(allowed)

    with caplog.at_level(logging.ERROR, "awx_ratelimit"):
        allowed = asyncio.run(decided())

    said = [
        text for text in caplog.messages if text.startswith("the backend cannot be used as it is set up, and limits")
    ]
    assert allowed is True
    assert len(said) == 1
    assert f"redis at {HOST}:{guarded.port}: " in said[0]
    assert "; correct the password in the URL" in said[0]
    assert SECRET not in caplog.text


def test_full_memory(start_redis: StartRedis, open_limiter: OpenLimiter) -> None:
    """At maxmemory claims raise BackendUnavailable with the reason, also in the health, until there is room."""
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
        ("redis://localhost:x", "port: expected a number from 1 to 65535, as in redis://host:6379"),
        ("redis://localhost:70000", "port: expected a number from 1 to 65535, as in redis://host:6379"),
        ("redis://[::1", "%25 %40; got one that cannot be parsed"),
        ("redis://localhost/prod", "database: expected a number, as in redis://host:6379/0"),
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
        ("rediss://localhost?ssl_ca_certs=/nowhere", "ssl_ca_certs: expected a file in PEM, got '/nowhere': No such"),
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
def test_invalid_url(backend: type[RedisBackend | AsyncRedisBackend], url: str, what: str) -> None:
    """The error says what is allowed, and contains no password. Options that change how calls are sent are refused."""
    with pytest.raises(ValueError, match=re.escape(what)) as error:
        backend.from_url(url)

    assert SECRET not in "".join(traceback.format_exception(error.value))


@pytest.mark.parametrize("timeout_ms", [0, -1, 0.5, True, "50", None])
def test_invalid_timeout(timeout_ms: int) -> None:
    """A timeout that is not a positive whole number is a ValueError."""
    with pytest.raises(ValueError, match=r"timeout_ms: expected an integer >= 1"):
        RedisBackend.from_url("redis://localhost", timeout_ms=timeout_ms)


@pytest.mark.parametrize("prefix", ["a{b", "a}b", "x" * 65])
def test_invalid_prefix(prefix: str) -> None:
    """A prefix that is long or contains braces is a ValueError."""
    with pytest.raises(ValueError, match="expected at most 64 bytes without braces"):
        RedisBackend.from_url("redis://localhost", prefix=prefix)
