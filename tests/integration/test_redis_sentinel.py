"""Redis through Sentinel: which servers are used, configuration errors, and a primary that changes."""

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
    """A service whose servers and sentinels have different passwords."""
    folder = tmp_path_factory.mktemp("sentinel")
    with running_sentinel(folder, password=OTHER_SECRET, servers_password=SECRET) as service:
        yield service


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stop a process for the duration of a block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def everything(limiter: Any) -> tuple[Any, ...]:
    """Use every method: the decisions, and the debt and leases at the end."""
    held = limiter.acquire("s", PLAN)
    limiter.release(held)
    limiter.refund(held)
    limiter.acquire("s", PLAN)
    limiter.renew_leases()
    left = limiter.peek("s", PLAN)
    limiter.reset("s")
    return held.allowed, left.held, left.usages[0].remaining, limiter.health()["state"]


EVERYTHING = (True, 1, 999, "ok")


def test_two_passwords(locked: Service, open_limiter: OpenLimiter) -> None:
    """Servers and sentinels each get their own password, and only servers get the database."""
    url = f"redis+sentinel://:{SECRET}@{locked.places}/{SERVICE}/2?sentinel_password={OTHER_SECRET}"
    with locked.primary.client(db=2) as client:
        client.flushdb()
        assert everything(open_limiter(url)) == EVERYTHING
        # The subject, and the note that its refund was done.
        assert client.dbsize() == 2


def test_tls(start_redis: StartRedis, tmp_path: Path, open_limiter: OpenLimiter) -> None:
    """The trusted certificates apply to sentinels and to servers."""
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
def test_protocols(redis_service: Service, open_limiter: OpenLimiter, protocol: int) -> None:
    """Sentinels work with RESP2 and RESP3."""
    assert everything(open_limiter(f"{redis_service.url}?protocol={protocol}")) == EVERYTHING


@pytest.mark.parametrize(
    ("place", "query", "what"),
    [
        (f":{SECRET}@{{places}}/{SERVICE}", "", "check ?sentinel_username= and &sentinel_password="),
        (f":{SECRET}@{{places}}/{SERVICE}", f"?sentinel_password={SECRET}", "check ?sentinel_username= and"),
        (
            f":{SECRET}@{{places}}/nobody",
            f"?sentinel_password={OTHER_SECRET}",
            "they watch no service 'nobody'; correct",
        ),
        (f":{OTHER_SECRET}@{{places}}/{SERVICE}", f"?sentinel_password={OTHER_SECRET}", "; correct the password"),
        ("{places}/" + SERVICE, f"?sentinel_password={OTHER_SECRET}", "it needs a password; write redis://:password@"),
    ],
    ids=["no password of the sentinels", "a wrong one", "an unknown service", "a wrong one of the servers", "none"],
)
def test_misconfiguration(locked: Service, open_limiter: OpenLimiter, place: str, query: str, what: str) -> None:
    """A misconfiguration is an error at the start, without a password in it or in its cause."""
    with pytest.raises(BackendMisconfigured, match=re.escape(what)) as error:
        open_limiter(f"redis+sentinel://{place.format(places=locked.places)}{query}")

    said = "".join(traceback.format_exception(error.value))
    assert [secret for secret in (SECRET, OTHER_SECRET) if secret in said] == []


def test_no_sentinel(redis_service: Service, redis_server: RedisServer, open_limiter: OpenLimiter) -> None:
    """A server in a sentinel's place is an error, and a sentinel in a server's place too."""
    with pytest.raises(BackendMisconfigured, match=r"the query failed .*; name a sentinel, whose port is 26379"):
        open_limiter(f"redis+sentinel://{HOST}:{redis_server.port}/{SERVICE}")
    with pytest.raises(BackendMisconfigured, match=r"it is a sentinel; name it and .*: redis\+sentinel://"):
        open_limiter(f"redis://{HOST}:{redis_service.sentinels[0].port}")


def test_unreachable_sentinels(open_limiter: OpenLimiter, caplog: pytest.LogCaptureFixture) -> None:
    """At the start it is a warning, because sentinels may come up later; a claim raises an error."""
    places = f"{HOST}:{free_port()},{HOST}:{free_port()}"
    with caplog.at_level(logging.WARNING, "awx_ratelimit"):
        limiter = open_limiter(f"redis+sentinel://:{SECRET}@{places}/{SERVICE}")

    said = f"redis sentinels {places.replace(',', ', ')}: none that watches {SERVICE} can be reached"
    with pytest.raises(BackendUnavailable, match=said):
        limiter.acquire("s", PLAN)
    assert said in caplog.text
    assert SECRET not in caplog.text


def test_failing_sentinels_are_skipped(redis_service: Service, open_limiter: OpenLimiter) -> None:
    """One working sentinel suffices within the time of a call, and is asked first next time."""
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


def test_all_sentinels_hang(redis_service: Service, open_limiter: OpenLimiter) -> None:
    """If all sentinels hang, the claim fails within the time of a call, and the error says why."""
    limiter = open_limiter(redis_service.url, timeout_ms=300)
    with redis_service.primary.client() as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    one, two, three = redis_service.sentinels

    is_unavailable = pytest.raises(BackendUnavailable, match=r"can be reached|did not answer within 300 ms")
    with stopped(one.pid), stopped(two.pid), stopped(three.pid), timed() as watch, is_unavailable:
        limiter.acquire("another", PLAN)

    assert watch.seconds < watch.limit(0.6)


def test_planned_failover(tmp_path_factory: pytest.TempPathFactory, open_limiter: OpenLimiter) -> None:
    """After a planned failover the next claim finds the new primary, and nothing is lost."""
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
    """The role of a server; None if a change of its role has just closed the connection."""
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


def test_replica(tmp_path_factory: pytest.TempPathFactory, open_limiter: OpenLimiter) -> None:
    """A replica that the sentinels report as the primary is not used, and is no misconfiguration."""
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
