"""Every way to reach a server, and how many connections each needs."""

import asyncio
import gc
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from tests.integration.conftest import OpenLimiter
from tests.redis_servers import HOST, RedisServer, running_redis

from awx_ratelimit import AsyncLimiter, Plan
from awx_ratelimit.backends.redis import AsyncRedisBackend
from awx_ratelimit.errors import BackendMisconfigured

PLAN = Plan.of("ways", per_day=100, concurrent=2)
PASSWORD = "a/b#c?d%e@f:g"
QUOTED = "a%2Fb%23c%3Fd%25e%40f%3Ag"
#: A URL, and the number of its database.
WAYS = {
    "a port": ("redis://{host}", 0),
    "valkey": ("valkey://{host}", 0),
    "a database": ("redis://{host}/3", 3),
    "a database by name": ("redis://{host}?db=4", 4),
    "a socket": ("redis+unix://{socket}", 0),
    "a database on a socket": ("redis+unix://{socket}?db=5", 5),
}
LOCKED_WAYS = {
    "a password": "redis://:{password}@{host}",
    "a user": "redis://alice:{password}-hers@{host}/0",
    "a user on a socket": "redis+unix://alice:{password}-hers@{socket}",
}
TLS_WAYS = {
    "a trusted authority": "rediss://{host}?ssl_ca_certs={ca}",
    "valkeys": "valkeys://{host}?ssl_ca_certs={ca}",
    "a name": "rediss://localhost:{port}?ssl_ca_certs={ca}",
    "another name": "rediss://localhost:{port}?ssl_ca_certs={ca}&ssl_check_hostname=false",
    "anybody": "rediss://{host}?ssl_cert_reqs=none",
}


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server whose password contains every character that a URL must quote."""
    users = [f"alice on >{PASSWORD}-hers ~awx:* +@all"]
    with running_redis(tmp_path_factory.mktemp("redis"), password=PASSWORD, users=users) as server:
        yield server


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server that is reached over TLS."""
    with running_redis(tmp_path_factory.mktemp("redis"), tls=True) as server:
        yield server


def url(way: str, server: RedisServer, protocol: int) -> str:
    place = way.format(
        host=f"{HOST}:{server.port}", port=server.port, socket=server.socket, ca=server.ca, password=QUOTED
    )
    return f"{place}{'&' if '?' in place else '?'}protocol={protocol}"


def used(limiter: Any, client: "redis.Redis", database: int = 0) -> tuple[Any, ...]:
    """Use every method: the decisions, the debt at the end, the number of connections, and the keys."""
    before = client.info("stats")["total_connections_received"]
    held = limiter.acquire("s", PLAN)
    others = [limiter.acquire(f"other {number}", PLAN).allowed for number in range(10)]
    refused = [limiter.acquire("s", PLAN).allowed for _ in range(2)]
    limiter.release(held)
    limiter.refund(held)
    left = limiter.peek("s", PLAN)
    limiter.reset("s")
    limiter.renew_leases()
    opened = client.info("stats")["total_connections_received"] - before
    client.select(database)
    return others, refused, left.held, left.usages[0].remaining, limiter.health()["state"], opened <= 4, client.dbsize()


#: The last key notes that the refund was done.
USED = ([True] * 10, [True, False], 1, 99, "ok", True, 12)


@pytest.mark.parametrize(("way", "protocol"), [("a port", 2), *((way, 3) for way in WAYS)])
def test_urls(redis_server: RedisServer, open_limiter: OpenLimiter, way: str, protocol: int) -> None:
    """Every scheme works with RESP2 and RESP3, and keys are in the database of the URL."""
    place, database = WAYS[way]
    limiter = open_limiter(url(place, redis_server, protocol))

    with redis_server.client() as client:
        assert used(limiter, client, database) == USED


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("way", LOCKED_WAYS)
def test_passwords(locked: RedisServer, open_limiter: OpenLimiter, way: str, protocol: int) -> None:
    """A quoted password may contain any character."""
    limiter = open_limiter(url(LOCKED_WAYS[way], locked, protocol))

    with locked.client() as client:
        client.flushall()
        assert used(limiter, client) == USED


@pytest.mark.parametrize(("way", "protocol"), [("a name", 2), *((way, 3) for way in TLS_WAYS)])
def test_tls(encrypted: RedisServer, open_limiter: OpenLimiter, way: str, protocol: int) -> None:
    """A server with TLS works like any other."""
    limiter = open_limiter(url(TLS_WAYS[way], encrypted, protocol))

    with encrypted.client() as client:
        client.flushall()
        assert used(limiter, client) == USED


def test_certificates_are_read_once(
    encrypted: RedisServer, open_limiter: OpenLimiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading the trusted certificates takes long, so no connection does it again."""
    limiter = open_limiter(url(TLS_WAYS["a trusted authority"], encrypted, 3))

    monkeypatch.setattr("ssl.create_default_context", None)
    assert limiter.acquire("once", PLAN).allowed


def test_loop_that_ends(encrypted: RedisServer) -> None:
    """The end of a loop closes its TLS connections completely, so nothing is left to collect."""

    async def used_and_closed() -> None:
        limiter = AsyncLimiter(AsyncRedisBackend.from_url(url(TLS_WAYS["a name"], encrypted, 3), timeout_ms=5_000))
        await limiter.acquire("s", PLAN)
        await limiter.aclose()

    with warnings.catch_warnings(record=True) as left:
        warnings.simplefilter("always")
        for _ in range(3):
            asyncio.run(used_and_closed())
            gc.collect()
    assert [str(warning.message) for warning in left] == []


def test_untrusted_certificate(encrypted: RedisServer, open_limiter: OpenLimiter) -> None:
    """The error says how to trust the certificate."""
    with pytest.raises(BackendMisconfigured, match=r"certificate verify failed: .*; name .* \?ssl_ca_certs=/"):
        open_limiter(encrypted.url)


@pytest.mark.parametrize("protocol", [2, 3])
def test_connections_have_a_name(redis_server: RedisServer, open_limiter: OpenLimiter, protocol: int) -> None:
    """CLIENT LIST shows which connections belong to this library."""
    limiter = open_limiter(f"{redis_server.url}?protocol={protocol}")
    limiter.acquire("s", PLAN)

    with redis_server.client() as client:
        names = [each["name"] for each in client.client_list()]
    assert "awx_ratelimit" in names


def test_lost_connections(redis_server: RedisServer, open_limiter: OpenLimiter) -> None:
    """Any number of lost connections can be replaced."""
    limiter = open_limiter(redis_server.socket_url)
    lost = 0

    with redis_server.client() as client:
        for number in range(150):
            lost += client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            assert limiter.acquire(f"s{number}", PLAN).allowed

    assert lost >= 149
