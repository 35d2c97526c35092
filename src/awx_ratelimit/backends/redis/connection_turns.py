"""How calls on a connection wait: a task has one deadline for all of a call, a thread also waits for its turn."""

import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from awx_ratelimit.backends.redis.batch import delayed
from awx_ratelimit.backends.redis.codec import Call
from awx_ratelimit.backends.redis.server import Server
from awx_ratelimit.runtime.deadlines import Deadline, TaskDeadline


class ThreadCalls:
    """For threads, one call at a time."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._lock = threading.Lock()
        self._deadline = Deadline()
        self._connection: Any = None

    def _run(self, calls: Sequence[Call]) -> list[Any]:
        raise NotImplementedError

    def run(self, calls: Sequence[Call], until_s: float | None = None) -> list[Any]:
        """The answer to each call, in one round trip. Raises BackendUnavailable if there are none.

        All of it, opening the connection included, ends by `until_s`, or within the time limit of a call from now.
        """
        until_s = until_s or time.monotonic() + self._server.timeout_s
        take = partial(self._lock.acquire, timeout=max(0.0, until_s - time.monotonic()))
        # A loop of one turn: between `acquire` and `try` a signal handler could raise and leave the lock taken.
        for _ in iter(take, False):
            try:
                if not self._deadline.begin(until_s):
                    break
                return self._run(calls)
            finally:
                self._lock.release()
        raise delayed(f"redis at {self._server.name} is still busy with the call before")


class TaskCalls:
    """For the tasks of one event loop, one call at a time: whoever uses it awaits one call before the next."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._deadline: TaskDeadline
        self._connection: Any = None

    async def _run(self, calls: Sequence[Call]) -> list[Any]:
        raise NotImplementedError

    async def run(self, calls: Sequence[Call]) -> list[Any]:
        """The answer to each call, in one round trip. Raises BackendUnavailable if there are none.

        All of it, opening the connection included, has one deadline.
        """
        try:
            with TaskDeadline(self._server.timeout_s) as self._deadline:
                return await self._run(calls)
        except TimeoutError as error:
            raise self._server.unavailable(error) from error
