"""A cluster: which of its servers has the slot of a key, and what they say where that has changed.

The map of the slots is read from whichever server answers: by the first call, and then by a thread, whenever a server
does not answer or says that a slot is elsewhere. Meanwhile calls go on by the map as it is, and one that is told where
its slot is now goes there: it was not run. A server that is gone takes nothing with it but its own slots.
"""

import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, RedisError, ResponseError, TryAgainError

from awx_ratelimit.backends.redis.batch import unavailable
from awx_ratelimit.backends.redis.server import Redirect, Server
from awx_ratelimit.backends.redis.transport import Endpoint
from awx_ratelimit.errors import BackendMisconfigured, BackendUnavailable
from awx_ratelimit.runtime.forks import register_after_fork

HostPort: TypeAlias = tuple[str, int]
#: So long after the map was read it is not read again.
_AGAIN_S = 0.1
#: So many servers may hang, and another is still asked for the map within the time of a call.
_MAX_HANGING = 2


class Node(Server):
    """One server of a cluster; with `asking`, as it is asked for what is on its way there from its `home`."""

    mode = "cluster"

    def __init__(self, cluster: "Cluster", place: HostPort, home: "Node | None" = None) -> None:
        super().__init__(
            cluster.endpoint.at(*place, cluster.timeout_s), timeout_s=cluster.timeout_s, needed=cluster.needed
        )
        self.place = place
        self.asking = home is not None
        self.home: Node = home or self
        self._cluster = cluster

    def refused(self, error: ResponseError) -> BackendUnavailable | Redirect:
        """See Server. A call that went to the wrong server, or came at the wrong time, is sent again."""
        # MOVED is a kind of ASK to the client.
        if isinstance(error, MovedError):
            to = self._cluster.moved(error.slot_id, self._place(error))
        elif isinstance(error, AskError):
            to = self._cluster.asked(self._place(error), self)
        elif isinstance(error, TryAgainError):
            to = self
        else:
            if isinstance(error, ClusterDownError):
                self._cluster.doubt()
            return self.explained(error)
        waits_for = f"redis at {self.name}: the slot of this key is being moved, and was not found in time"
        return Redirect(to, BackendUnavailable(f"{waits_for} ({type(error).__name__} {error})"))

    def unavailable(self, error: BaseException) -> BackendUnavailable:
        """See Server: another may have its slots by now."""
        self._cluster.doubt()
        return self.explained(error)

    def _place(self, error: AskError) -> HostPort:
        # Without a host it is the one that was asked.
        return error.host or self.endpoint.host, error.port


class Cluster:
    """See the module, and Route. It is found by `seeds`, any of which may be down."""

    together = False

    def __init__(self, seeds: Sequence[HostPort], endpoint: Endpoint, *, timeout_s: float, needed: str) -> None:
        self.endpoint = endpoint
        self.timeout_s = timeout_s
        self.needed = f"{needed} +cluster|slots +asking"
        self.generation = 0
        self._seeds = seeds
        self._known: list[HostPort] = []
        self._nodes: dict[tuple[HostPort, HostPort | None], Node] = {}
        self._map: list[Node | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        self.begin()
        register_after_fork(self.begin)

    def begin(self) -> None:
        """Start anew, with the map as it is: in a child process."""
        self._reading, self._doubting = threading.Lock(), threading.Lock()
        self._read_s = -_AGAIN_S
        self._unread: BackendUnavailable | None = None

    def server(self, key: bytes) -> Node | None:
        """See Route."""
        return self._map[key_slot(key)]

    def serves(self, server: Server) -> bool:
        """See Route."""
        return server in self._nodes.values()

    def found(self, key: bytes) -> Node:
        """See Route."""
        self._read()
        node = self.server(key)
        if node is None:
            raise BackendUnavailable(f"redis cluster: no server has slot {key_slot(key)}")
        return node

    def servers(self) -> Sequence[Node]:
        """See Route."""
        return list({id(node): node for node in self._map if node is not None}.values())

    def moved(self, slot: int, place: HostPort) -> Node:
        """A server says that it is another that has the slot."""
        node = self._map[slot] = self._node(place)
        self.generation += 1
        # It is seldom one slot alone.
        self.doubt()
        return node

    def asked(self, place: HostPort, home: Node) -> Node:
        """The slot is on its way from `home` to another server, and its key may be there by now."""
        return self._node(place, home)

    def doubt(self) -> None:
        """The map may be wrong: let a thread read it again."""
        if self._doubting.acquire(blocking=False):
            try:
                threading.Thread(target=self._read_again, name="awx_ratelimit cluster", daemon=True).start()
            except RuntimeError:
                # There are no threads any more when the interpreter ends.
                self._doubting.release()

    def _read_again(self) -> None:
        time.sleep(max(0.0, self._read_s + _AGAIN_S - time.monotonic()))
        # Whoever doubts it from now on, this reading may be too early for.
        self._doubting.release()
        with suppress(BackendUnavailable):
            self._read()

    def _read(self) -> None:
        """Read the map, unless that was done a moment ago. Raises BackendUnavailable."""
        if not self._reading.acquire(timeout=self.timeout_s):
            raise BackendUnavailable("redis cluster: no server has said in time which has which slots")
        try:
            if time.monotonic() >= self._read_s + _AGAIN_S:
                self._unread = self._read_from_any()
                self._read_s = time.monotonic()
            unread = self._unread
        finally:
            self._reading.release()
        if unread is not None:
            raise unavailable(unread)

    def _read_from_any(self) -> BackendUnavailable | None:
        """Read the map from the first server that has one; else why none has."""
        until_s = time.monotonic() + self.timeout_s
        error = BackendUnavailable("redis cluster: no server has any slots")
        for place in (*random.sample(self._known, len(self._known)), *self._seeds):
            try:
                spans = list(self._spans(place))
            except (RedisError, OSError, BackendUnavailable) as failed:
                if not isinstance(error, BackendMisconfigured):
                    error = self._node(place).explained(failed)
                spans = []
            if spans:
                self._draw(spans)
                return None
            if time.monotonic() > until_s:
                break
        return error

    def _spans(self, place: HostPort) -> Iterator[tuple[int, int, list[HostPort]]]:
        """What a server says of the slots: the first and the last of each span, and who has them, the primary first."""
        connection = self.endpoint.at(*place, self.timeout_s / (_MAX_HANGING + 1)).new()
        try:
            connection.connect()
            connection.send_command("HELLO")
            self._node(place).welcome(connection, _greeting(connection))
            connection.send_command("CLUSTER", "SLOTS")
            slots = connection.read_response()
        finally:
            connection.disconnect()
        for first, last, *nodes in slots:
            # Without a host it is the one that was asked.
            yield (
                first,
                last,
                [(host.decode() if host and host != b"?" else place[0], port) for host, port, *_ in nodes],
            )

    def _draw(self, spans: list[tuple[int, int, list[HostPort]]]) -> None:
        drawn: list[Node | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        for first, last, places in spans:
            drawn[first : last + 1] = [self._node(places[0])] * (last + 1 - first)
        nodes = {node for node in drawn if node is not None}
        self._known = list({place for _, _, places in spans for place in places})
        self._nodes = {key: node for key, node in self._nodes.items() if node.home in nodes}
        if drawn != self._map:
            self._map = drawn
            self.generation += 1

    def _node(self, place: HostPort, home: Node | None = None) -> Node:
        key = place, home.place if home else None
        node = self._nodes.get(key)
        return node or self._nodes.setdefault(key, Node(self, place, home))


def _greeting(connection: Any) -> Any:
    """What HELLO was answered. Where it is refused, the URL asks for ?protocol=2, and the version is not known."""
    try:
        return connection.read_response()
    except ResponseError as refused:
        return refused
