"""The backends of servers as their users have them: for threads, and for the tasks of an event loop."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from signal import SIGCONT, SIGSTOP
from typing import Any, TypeAlias

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from tests.redis_servers import RedisServer

from awx_ratelimit import AsyncLimiter, Limiter
from awx_ratelimit.backends.postgres import AsyncPostgresBackend, PostgresBackend
from awx_ratelimit.backends.redis import AsyncRedisBackend, RedisBackend

#: Opens a limiter at a URL, with more settings of `from_url`. Threads can call all its methods.
OpenLimiter: TypeAlias = Callable[..., Any]


class LoopLimiter:
    """An AsyncLimiter on an event loop in another thread, whose methods are awaited there."""

    def __init__(self, portal: BlockingPortal, limiter: AsyncLimiter) -> None:
        self.portal = portal
        self._limiter = limiter
        self.backend = limiter.backend
        #: A plain function, called in the test's own thread.
        self.give_back = limiter.give_back
        self.close = partial(portal.call, limiter.aclose)

    def __getattr__(self, verb: str) -> Any:
        return partial(self.portal.call, getattr(self._limiter, verb))


@contextmanager
def repeated(act: Callable[[], Any]) -> Iterator[list[int]]:
    """Call it again and again in a thread, and count the calls."""
    times, over = [0], threading.Event()

    def repeat() -> None:
        while not over.is_set():
            act()
            times[0] += 1

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield times
    finally:
        over.set()
        thread.join()


@contextmanager
def stopped(server: RedisServer) -> Iterator[None]:
    """Stop a server for the duration of a block."""
    os.kill(server.pid, SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, SIGCONT)


KINDS = ("threads", "tasks")
#: A long timeout, for tests that are not about timeouts.
AMPLE_MS = 5_000


@pytest.fixture
def open_limiters() -> Iterator[Callable[..., dict[str, Any]]]:
    """A function that opens one limiter of each kind at a URL; they are closed after the test."""
    with ExitStack() as opened:
        yield lambda url, **settings: {kind: _opened(opened, kind, url, settings) for kind in KINDS}


@pytest.fixture(params=KINDS)
def open_limiter(request: pytest.FixtureRequest) -> Iterator[OpenLimiter]:
    """A function that opens limiters of one kind, and closes them after the test; each test runs with both kinds."""
    with ExitStack() as opened:
        yield lambda url, **settings: _opened(opened, request.param, url, settings)


def _opened(opened: ExitStack, kind: str, url: str, settings: dict[str, Any]) -> Any:
    limiter: Limiter | LoopLimiter
    backends: Any = (RedisBackend, AsyncRedisBackend)
    if url.startswith("postgresql:"):
        backends = PostgresBackend, AsyncPostgresBackend
    settings = {"timeout_ms": AMPLE_MS} | settings
    if kind == "threads":
        limiter = Limiter(backends[0].from_url(url, **settings))
    else:
        portal = opened.enter_context(start_blocking_portal())
        limiter = LoopLimiter(portal, AsyncLimiter(backends[1].from_url(url, **settings)))
    opened.callback(limiter.close)
    return limiter
