"""Redis Cluster: which node has the slot of a key, and what to do when slots move.

The first call reads the slot map from any node that answers. A thread reads it again when a node does not answer or
says that a slot is elsewhere. Meanwhile calls use the old map. A node that refuses a call because of a moved slot has
not run it, so the call follows the redirect. When a node is down, only its own slots are unavailable.
"""

import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeAlias

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, RedisError, ResponseError, TryAgainError

from awx_ratelimit.backends.redis.endpoint import Endpoint
from awx_ratelimit.backends.redis.server import Server
from awx_ratelimit.backends.redis.thread_transport import open_transport
from awx_ratelimit.backends.remote.replies import Redirect, copied_error
from awx_ratelimit.errors import BackendMisconfigured, BackendUnavailable
from awx_ratelimit.runtime.background_thread import BackgroundThread
from awx_ratelimit.runtime.deadlines import Deadline
from awx_ratelimit.runtime.forks import register_after_fork

HostPort: TypeAlias = tuple[str, int]
#: The shortest time between two readings of the slot map.
_MIN_REREAD_S = 0.1
#: With this many hanging nodes, another one can still be asked for the map within the timeout.
_MAX_HANGING = 2


class Node(Server):
    """A node of a cluster. With a `home`, it is a node that imports slots from `home`: its calls need ASKING."""

    mode = "cluster"

    def __init__(self, cluster: "Cluster", place: HostPort, home: "Node | None" = None) -> None:
        endpoint = cluster.endpoint.at(*place, cluster.timeout_s)
        super().__init__(endpoint, timeout_s=cluster.timeout_s, permissions=cluster.permissions)
        self.place = place
        self.asking = home is not None
        self.home: Node = home or self
        self._cluster = cluster

    def on_refusal(self, error: ResponseError) -> BackendUnavailable | Redirect:
        """See Server. Redirects calls that went to the wrong node or came at the wrong time."""
        # In redis-py, MovedError is a subclass of AskError.
        if isinstance(error, MovedError):
            to = self._cluster.slot_moved(error.slot_id, self._target(error))
        elif isinstance(error, AskError):
            # That node is importing the slot from this one, and may have the key already.
            to = self._cluster.node(self._target(error), self)
        elif isinstance(error, TryAgainError):
            to = self
        else:
            if isinstance(error, ClusterDownError):
                self._cluster.refresh_later()
            return self.explain(error)
        late = f"redis at {self.name}: the slot of this key is being moved, and was not found in time"
        return Redirect(to, BackendUnavailable(f"{late} ({type(error).__name__} {error})"))

    def on_failure(self, error: BaseException) -> BackendUnavailable:
        """See Server. Another node may have the slots by now."""
        self._cluster.refresh_later()
        return self.explain(error)

    def _target(self, error: AskError) -> HostPort:
        # A redirect without a host means the host of the node that sent it.
        return error.host or self.endpoint.host, error.port


class Cluster:
    """See the module, and Route. `seeds` are some of its nodes; some of them may be down."""

    multi_key = False

    def __init__(self, seeds: Sequence[HostPort], endpoint: Endpoint, *, timeout_s: float, permissions: str) -> None:
        self.endpoint = endpoint
        self.timeout_s = timeout_s
        self.permissions = f"{permissions} +cluster|slots +asking"
        self.generation = 0
        self._seeds = seeds
        self._known: list[HostPort] = []
        self._nodes: dict[tuple[HostPort, HostPort | None], Node] = {}
        self._slots: list[Node | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        self._refreshing = BackgroundThread("awx_ratelimit cluster")
        self.begin()
        register_after_fork(self.begin)

    def begin(self) -> None:
        """Start with new locks and the known map: in a child process."""
        self._reading = threading.Lock()
        self._refreshing.renew()
        self._read_s = -_MIN_REREAD_S
        self._read_error: BackendUnavailable | None = None

    def server(self, key: bytes) -> Node | None:
        return self._slots[key_slot(key)]

    def serves(self, server: Server) -> bool:
        return server in self._nodes.values()

    def find_server(self, key: bytes) -> Node:
        self._read()
        node = self.server(key)
        if node is None:
            raise BackendUnavailable(f"redis cluster: no server has slot {key_slot(key)}")
        return node

    def servers(self) -> Sequence[Node]:
        return list({id(node): node for node in self._slots if node is not None}.values())

    def slot_moved(self, slot: int, place: HostPort) -> Node:
        """Note that `slot` is on another node (MOVED). Returns that node."""
        node = self._slots[slot] = self.node(place)
        self.generation += 1
        # Slots rarely move alone.
        self.refresh_later()
        return node

    def refresh_later(self) -> None:
        """Read the slot map again, in a thread: it may be wrong."""
        self._refreshing.start(self._refresh)

    def _refresh(self) -> None:
        time.sleep(max(0.0, self._read_s + _MIN_REREAD_S - time.monotonic()))
        # Before the read: a change that is seen from now on needs another one.
        self._refreshing.is_busy = False
        with suppress(BackendUnavailable):
            self._read()

    def _read(self) -> None:
        """Read the slot map, unless that was just done. Raises BackendUnavailable."""
        # A loop with one turn: between `acquire` and `try`, a signal handler could raise and leave the lock taken.
        for _ in iter(partial(self._reading.acquire, timeout=self.timeout_s), False):
            try:
                if time.monotonic() >= self._read_s + _MIN_REREAD_S:
                    self._read_error = self._read_from_any()
                    self._read_s = time.monotonic()
                error = self._read_error
            finally:
                self._reading.release()
            if error is not None:
                raise copied_error(error)
            return
        raise BackendUnavailable("redis cluster: no server has sent the slot map in time")

    def _read_from_any(self) -> BackendUnavailable | None:
        """Read the map from the first node that has one. Returns an error if none has."""
        until_s = time.monotonic() + self.timeout_s
        error = BackendUnavailable("redis cluster: no server has any slots")
        for place in (*random.sample(self._known, len(self._known)), *self._seeds):
            try:
                ranges = list(self._slot_ranges(place))
            except (RedisError, OSError, BackendUnavailable) as failure:
                if not isinstance(error, BackendMisconfigured):
                    error = self.node(place).explain(failure)
                ranges = []
            if ranges:
                self._use_map(ranges)
                return None
            if time.monotonic() > until_s:
                break
        return error

    def _slot_ranges(self, place: HostPort) -> Iterator[tuple[int, int, list[HostPort]]]:
        """Ask a node for the map: first slot, last slot, and the nodes of the range, primary first."""
        endpoint = self.endpoint.at(*place, self.timeout_s / (_MAX_HANGING + 1))
        connection = open_transport(endpoint, Deadline(time.monotonic() + endpoint.timeout_s))
        try:
            self.node(place).check_greeting(connection.greeting)
            slots = connection.ask("CLUSTER", "SLOTS")
        finally:
            connection.close()
        for first, last, *nodes in slots:
            # A node without a host is the one that was asked.
            hosts = [(host.decode() if host and host != b"?" else place[0], port) for host, port, *_ in nodes]
            yield first, last, hosts

    def _use_map(self, ranges: list[tuple[int, int, list[HostPort]]]) -> None:
        slots: list[Node | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        for first, last, places in ranges:
            slots[first : last + 1] = [self.node(places[0])] * (last + 1 - first)
        nodes = {node for node in slots if node is not None}
        self._known = list({place for _, _, places in ranges for place in places})
        self._nodes = {key: node for key, node in self._nodes.items() if node.home in nodes}
        if slots != self._slots:
            self._slots = slots
            self.generation += 1

    def node(self, place: HostPort, home: Node | None = None) -> Node:
        """The node at `place`. With a `home`, it imports slots from there."""
        key = place, home.place if home else None
        node = self._nodes.get(key)
        return node or self._nodes.setdefault(key, Node(self, place, home))
