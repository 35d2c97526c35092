"""Connections to servers that misbehave: a call fails in time with the reason, and the next one works."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from tests.machine import timed
from tests.redis_servers import HOST

from awx_ratelimit import BackendUnavailable, Plan
from awx_ratelimit.backends.redis import AsyncRedisBackend, RedisBackend
from awx_ratelimit.backends.redis.connection import AsyncConnection
from awx_ratelimit.backends.redis.connection_sync import Connection
from awx_ratelimit.backends.redis.routing import route_to
from awx_ratelimit.backends.redis.scripts import RESET, Call
from awx_ratelimit.backends.redis.server import Server
from awx_ratelimit.backends.redis.task_transport import TaskTransport

GREETING = b"%2\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.4.0\r\n"
PLAN = Plan.of("p", per_minute=60)
CALL = Call(RESET, [b"k"], [b"a"])
#: What a server does after it has read a call: send these bytes, or close the connection.
Act = bytes | None
#: Makes one call after another, on connections of one kind. Returns the first reply of each, or its error.
Calls = Callable[[Server, int], list[Any]]


def in_thread(server: Server, times: int) -> list[Any]:
    connection, outcomes = Connection(server), []
    for _ in range(times):
        try:
            outcomes += connection.run([CALL])
        except BackendUnavailable as error:
            outcomes.append(str(error))
    connection.close()
    return outcomes


def in_task(server: Server, times: int) -> list[Any]:
    async def calls() -> list[Any]:
        connection, outcomes = AsyncConnection(server), []
        for _ in range(times):
            done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            connection.start([CALL], done.set_result)
            outcome = await done
            outcomes.append(str(outcome) if isinstance(outcome, Exception) else outcome[0])
        await connection.close()
        return outcomes

    return asyncio.run(calls())


@pytest.fixture(params=[in_thread, in_task], ids=["threads", "tasks"])
def calls(request: pytest.FixtureRequest) -> Calls:
    made: Calls = request.param
    return made


@contextmanager
def acting(*connections: tuple[Act, ...], early: bytes = b"") -> Iterator[int]:
    """A server whose connections greet and then do one act after each call. It sends `early` before it reads."""
    with socket.create_server((HOST, 0)) as listening, ExitStack() as opened:
        opened.callback(listening.shutdown, socket.SHUT_RDWR)

        def serve() -> None:
            for acts in connections:
                connection, _ = listening.accept()
                opened.enter_context(connection)
                connection.sendall(early)
                for act in (b"" if early else GREETING, *acts):
                    connection.recv(65_536)
                    if act is None:
                        connection.close()
                        break
                    # The client may have read enough before the end.
                    with suppress(OSError):
                        for at in range(len(act)):
                            connection.sendall(act[at : at + 1])

        with ThreadPoolExecutor(1) as pool:
            served = pool.submit(serve)
            yield listening.getsockname()[1]
            served.result(10)


def server(port: int, timeout_ms: int = 5_000, scheme: str = "redis") -> Server:
    found: Server = route_to(f"{scheme}://{HOST}:{port}", timeout_ms=timeout_ms, prefix="awx").find_server(b"")
    return found


def test_pieces(calls: Calls) -> None:
    """A reply that comes byte by byte is one reply."""
    with acting((b"$5\r\nabcde\r\n", b":7\r\n")) as port:
        assert calls(server(port), 2) == [b"abcde", 7]


@pytest.mark.parametrize("act", [None, b"$5\r\nab"], ids=["closed", "silent"])
def test_no_reply(calls: Calls, act: Act) -> None:
    """A server that closes the connection, or stops in the middle of a reply, fails this call alone."""
    reason = "the server closed the connection" if act is None else "did not answer within 100 ms"
    with acting((b":1\r\n", act), (act,), (b":7\r\n",)) as port, timed() as watch:
        _, *failed, answered = calls(server(port, 5_000 if act is None else 100), 4)

    assert [said.endswith(reason) for said in failed] == [True, True]
    assert answered == 7
    assert watch.seconds < watch.limit(1.0)


@pytest.mark.parametrize("act", [b"HTTP/1.1 400 Bad Request\r\n", b"*4294967295\r\n"], ids=["HTTP", "huge"])
def test_hostile_server(calls: Calls, act: bytes) -> None:
    """What is no reply is an error, and the connection is replaced."""
    with acting((act,), (b":7\r\n",)) as port:
        failed, answered = calls(server(port), 2)

    assert "Protocol" in failed
    assert answered == 7


def test_unasked_data(calls: Calls) -> None:
    """Data that nothing asked for belongs to no later call: the connection is replaced."""
    with acting((b":1\r\n:2\r\n",), (b":3\r\n",)) as port:
        assert calls(server(port), 2) == [1, 3]


def test_limit_of_clients(calls: Calls) -> None:
    """A server with too many clients says so before it is asked, and that is the error."""
    with acting((), early=b"-ERR max number of clients reached\r\n") as port:
        (failed,) = calls(server(port), 1)

    assert failed == f"redis at {HOST}:{port}: max number of clients reached"


def test_early_error() -> None:
    """It is the error even if it came, and the connection was closed, before the first call was sent."""

    async def early() -> str:
        one, other = socket.socketpair()
        with one, other:
            transport = TaskTransport()
            transport.connection_made(ClosedTransport(one))
            transport.data_received(b"-ERR max number of clients reached\r\n")
            transport.connection_lost(None)
            with pytest.raises(RedisConnectionError) as error:
                await asyncio.wait_for(transport.exchange(b"", 1), 10)
            return str(error.value)

    assert asyncio.run(early()) == "max number of clients reached"


class ClosedTransport:
    """A transport of asyncio whose connection is closed."""

    def __init__(self, sock: socket.socket) -> None:
        self.get_extra_info = {"socket": sock}.__getitem__

    def write(self, data: bytes) -> None:
        """Nothing is sent."""

    def abort(self) -> None:
        """It is closed."""


def test_slow_handshake(calls: Calls) -> None:
    """A TLS handshake that does not end is a call without an answer."""
    with socket.create_server((HOST, 0)) as listening, timed() as watch:
        port = listening.getsockname()[1]
        (failed,) = calls(server(port, 100, "rediss"), 1)

    assert failed == f"redis at {HOST}:{port} did not answer within 100 ms"
    assert watch.seconds < watch.limit(0.5)


def test_refused_connection(calls: Calls) -> None:
    """The error names the address once, and the reason."""
    with socket.create_server((HOST, 0)) as listening:
        port = listening.getsockname()[1]

    said = calls(server(port), 1)[0]
    assert said.startswith(f"redis at {HOST}:{port}: cannot connect: Conn")
    assert not said.endswith(".")


def one_claim(port: int) -> str:
    backend = RedisBackend(route_to(f"redis://{HOST}:{port}", timeout_ms=5_000, prefix="awx"))
    with pytest.raises(BackendUnavailable) as error:
        backend.acquire("s", PLAN, 1)
    backend._channels.close()
    return str(error.value)


def one_claim_in_a_task(port: int) -> str:
    async def claim() -> str:
        backend = AsyncRedisBackend(route_to(f"redis://{HOST}:{port}", timeout_ms=5_000, prefix="awx"))
        with pytest.raises(BackendUnavailable) as error:
            await asyncio.wait_for(backend.acquire("s", PLAN, 1), 10)
        await backend._channels.close()
        return str(error.value)

    return asyncio.run(claim())


@pytest.mark.parametrize(
    "act", [b"$3\r\nabc\r\n", b":7\r\n", b"_\r\n", b"*1\r\n:1\r\n"], ids=["short", "7", "null", "array"]
)
@pytest.mark.parametrize("claim", [one_claim, one_claim_in_a_task])
def test_a_reply_that_answers_no_claim(claim: Callable[[int], str], act: bytes) -> None:
    """It is a failure of the server, and the claim gets it as BackendUnavailable."""
    with acting((act,)) as port:
        said = claim(port)

    assert said == "redis: the reply to a claim was malformed"
