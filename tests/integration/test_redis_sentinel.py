"""A service that sentinels watch: who is asked, what is wrong with it, and a primary that is another."""

import logging
import os
import re
import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from tests.integration.conftest import OpenLimiter
from tests.machine import eventually, timed
from tests.processes import free_port
from tests.redis_groups import SERVICE, Service, running_sentinel
from tests.redis_servers import HOST, RedisServer, StartRedis, running_process

from awx_ratelimit import BackendUnavailable, Plan
from awx_ratelimit.errors import BackendMisconfigured

PLAN = Plan.of("watched", per_day=1_000, concurrent=10)
SECRET = "s3cr3t-passw0rd"
OTHER_SECRET = "an0ther"


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service whose servers and whose sentinels ask for a password each."""
    folder = tmp_path_factory.mktemp("sentinel")
    with running_sentinel(folder, password=OTHER_SECRET, servers_password=SECRET) as service:
        yield service


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that hangs."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def everything(limiter: Any) -> tuple[Any, ...]:
    """Every verb used: what was decided, and what is owed and held at the end."""
    held = limiter.acquire("s", PLAN)
    limiter.release(held)
    limiter.refund(held)
    limiter.acquire("s", PLAN)
    limiter.renew_leases()
    left = limiter.peek("s", PLAN)
    limiter.reset("s")
    return held.allowed, left.held, left.usages[0].remaining, limiter.health()["state"]


EVERYTHING = (True, 1, 999, "ok")


def test_passwords_of_servers_and_of_sentinels_are_two(locked: Service, open_limiter: OpenLimiter) -> None:
    """Each is told its own, and the database is the servers'."""
    url = f"redis+sentinel://:{SECRET}@{locked.places}/{SERVICE}/2?sentinel_password={OTHER_SECRET}"
    with locked.primary.client(db=2) as client:
        client.flushdb()
        assert everything(open_limiter(url)) == EVERYTHING
        assert client.dbsize() == 1


def test_sentinels_and_servers_with_tls(start_redis: StartRedis, tmp_path: Path, open_limiter: OpenLimiter) -> None:
    """What is trusted of the one is trusted of the other."""
    primary, port = start_redis(tls=True), free_port()
    assert primary.ca is not None
    certificate = primary.ca.with_name("cert.pem")
    tls = [f"tls-cert-file {certificate}", f"tls-key-file {certificate}", f"tls-ca-cert-file {primary.ca}"]
    lines = ["port 0", f"tls-port {port}", "tls-replication yes", "tls-auth-clients no", *tls]
    (tmp_path / "conf").write_text("\n".join([*lines, f"sentinel monitor {SERVICE} {HOST} {primary.port} 1", ""]))
    place = {"host": HOST, "port": port, "ssl": True, "ssl_ca_certs": str(primary.ca)}
    with running_process(tmp_path, "redis-server", ["conf", "--sentinel"], place):
        limiter = open_limiter(f"rediss+sentinel://{HOST}:{port}/{SERVICE}?ssl_ca_certs={primary.ca}")

        assert everything(limiter) == EVERYTHING


@pytest.mark.parametrize("protocol", [2, 3])
def test_sentinels_speak_both_protocols(redis_service: Service, open_limiter: OpenLimiter, protocol: int) -> None:
    """RESP2 and RESP3."""
    assert everything(open_limiter(f"{redis_service.url}?protocol={protocol}")) == EVERYTHING


@pytest.mark.parametrize(
    ("place", "query", "what"),
    [
        (f":{SECRET}@{{places}}/{SERVICE}", "", "check ?sentinel_username= and &sentinel_password="),
        (f":{SECRET}@{{places}}/{SERVICE}", f"?sentinel_password={SECRET}", "check ?sentinel_username= and"),
        (f":{SECRET}@{{places}}/nobody", f"?sentinel_password={OTHER_SECRET}", "they watch no service 'nobody'"),
        (f":{OTHER_SECRET}@{{places}}/{SERVICE}", f"?sentinel_password={OTHER_SECRET}", "check user and password"),
        ("{places}/" + SERVICE, f"?sentinel_password={OTHER_SECRET}", "check user and password"),
    ],
    ids=["no password of the sentinels", "a wrong one", "an unknown service", "a wrong one of the servers", "none"],
)
def test_what_is_wrong_is_said_at_the_start(
    locked: Service, open_limiter: OpenLimiter, place: str, query: str, what: str
) -> None:
    """BackendMisconfigured, with no password in it or in what it came from."""
    with pytest.raises(BackendMisconfigured, match=re.escape(what)) as error:
        open_limiter(f"redis+sentinel://{place.format(places=locked.places)}{query}")

    said = "".join(traceback.format_exception(error.value))
    assert [secret for secret in (SECRET, OTHER_SECRET) if secret in said] == []


def test_what_is_no_sentinel_is_an_error(
    redis_service: Service, redis_server: RedisServer, open_limiter: OpenLimiter
) -> None:
    """A server is none, and a sentinel is no server."""
    with pytest.raises(BackendMisconfigured, match="the query failed"):
        open_limiter(f"redis+sentinel://{HOST}:{redis_server.port}/{SERVICE}")
    with pytest.raises(BackendMisconfigured, match=r"it is a sentinel: name it and .* with redis\+sentinel://"):
        open_limiter(f"redis://{HOST}:{redis_service.sentinels[0].port}")


def test_sentinels_that_cannot_be_reached_are_a_warning_and_then_an_error(
    open_limiter: OpenLimiter, caplog: pytest.LogCaptureFixture
) -> None:
    """They may come up later."""
    places = f"{HOST}:{free_port()},{HOST}:{free_port()}"
    with caplog.at_level(logging.WARNING, "awx_ratelimit"):
        limiter = open_limiter(f"redis+sentinel://:{SECRET}@{places}/{SERVICE}")

    said = f"redis sentinels {places.replace(',', ', ')}: none that watches {SERVICE} can be reached"
    with pytest.raises(BackendUnavailable, match=said):
        limiter.acquire("s", PLAN)
    assert said in caplog.text
    assert SECRET not in caplog.text


def test_sentinels_that_are_down_or_hang_are_passed_by(redis_service: Service, open_limiter: OpenLimiter) -> None:
    """One of them is enough, and all is done within the time of a call; who answered is asked first next time."""
    down = f"{HOST}:{free_port()}"
    with stopped(redis_service.sentinels[0].pid), redis_service.primary.client() as client:
        limiter = open_limiter(f"redis+sentinel://{down},{redis_service.places}/{SERVICE}", timeout_ms=2_000)
        first = limiter.acquire("s", PLAN).allowed
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        with timed() as watch:
            again = limiter.acquire("s", PLAN).allowed

    assert first is True
    assert again is True
    assert watch.seconds < watch.limit(0.35)


def test_sentinels_that_all_hang_take_no_longer_than_a_call(redis_service: Service, open_limiter: OpenLimiter) -> None:
    """The error says so."""
    limiter = open_limiter(redis_service.url, timeout_ms=300)
    with redis_service.primary.client() as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    one, two, three = redis_service.sentinels

    is_unavailable = pytest.raises(BackendUnavailable, match=r"can be reached|did not answer within 300 ms")
    with stopped(one.pid), stopped(two.pid), stopped(three.pid), timed() as watch, is_unavailable:
        limiter.acquire("another", PLAN)

    assert watch.seconds < watch.limit(0.6)


def test_a_primary_that_handed_over_is_left(
    tmp_path_factory: pytest.TempPathFactory, open_limiter: OpenLimiter
) -> None:
    """After a failover in good order the next claim finds the new one, and nothing is lost."""
    with running_sentinel(tmp_path_factory.mktemp("sentinel")) as service:
        limiter = open_limiter(service.url)
        kept = limiter.acquire("s", PLAN)
        with service.sentinels[0].client() as sentinel, service.replica.client() as replica:
            sentinel.execute_command("SENTINEL", "FAILOVER", SERVICE)
            role = eventually(lambda: _role(replica), b"master", seconds=20)
            back = eventually(lambda: _decides(limiter), expected=True, seconds=20)

        left = limiter.peek("s", PLAN)
        assert kept.allowed is True
        assert role == b"master"
        assert back is True
        assert left.held == 1
        assert left.usages[0].remaining == 999


def _role(server: Any) -> bytes:
    """The role of a server; nothing when the change of its role has just closed the connection."""
    try:
        role: bytes = server.execute_command("ROLE")[0]
    except redis.ConnectionError:
        return b""
    return role


def _decides(limiter: Any) -> bool:
    try:
        return bool(limiter.peek("other", PLAN).allowed and limiter.health()["state"] == "ok")
    except BackendUnavailable:
        return False


def test_a_replica_is_no_primary_whatever_its_sentinels_say(
    tmp_path_factory: pytest.TempPathFactory, open_limiter: OpenLimiter
) -> None:
    """Neither one that became a replica under a claim, nor one that is found to be one; and that is no set-up error."""
    with running_sentinel(tmp_path_factory.mktemp("sentinel")) as service, service.primary.client() as client:
        limiter = open_limiter(service.url)
        limiter.acquire("s", PLAN)
        client.replicaof(HOST, service.replica.port)
        errors = []
        for _ in range(2):
            with pytest.raises(BackendUnavailable) as error:
                limiter.acquire("s", PLAN)
            errors.append(error.value)
        client.replicaof("NO", "ONE")

        said = [str(error).partition(f"the primary of {SERVICE}, ")[2][:12] for error in errors]
        assert said == ["is no longer"] * 2
        assert [type(error) for error in errors] == [BackendUnavailable] * 2
        assert limiter.acquire("s", PLAN).allowed
