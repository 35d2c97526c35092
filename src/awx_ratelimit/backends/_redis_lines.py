"""The lines to all servers: which one a claim takes, and where it goes on when a server says that it did not run it.

Two twins over one route. A claim that is sent again was not run: what may have been decided is never sent twice.
"""

import asyncio
import time
from collections.abc import Callable
from operator import attrgetter
from threading import Lock
from typing import Any

from awx_ratelimit.backends._redis_codec import Asked, Call
from awx_ratelimit.backends._redis_line import AsyncLine, Line
from awx_ratelimit.backends._redis_link import Answer
from awx_ratelimit.backends._redis_links import PAUSE_S
from awx_ratelimit.backends._redis_server import Redirect, Server
from awx_ratelimit.backends._redis_session import Session

_claims = attrgetter("claims")
_others = attrgetter("others")


class Lines:
    """For threads."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._route = session.route
        self._lines: dict[Server, Line] = {}

    def claim(self, asked: Asked) -> Any:
        """What became of a claim. Raises BackendUnavailable where it had no answer."""
        return self._sent(self._session.codec.key(asked[0]), _claims, asked)

    def call(self, call: Call) -> Any:
        """What any other call was answered. Raises BackendUnavailable where it had no answer."""
        return self._sent(call.keys[0], _others, call)

    def _sent(self, key: bytes, of_line: Callable[[Line], Any], item: Asked | Call) -> Answer:
        until_s = time.monotonic() + self._route.timeout_s
        server = self._route.server(key)
        if server is None:
            server = self._route.found(key)
        answer = of_line(self._to(server)).ask(item)
        pause_s = 0.0
        while isinstance(answer, Redirect) and time.monotonic() < until_s:
            time.sleep(pause_s)
            answer = of_line(self._to(answer.server)).ask(item)
            pause_s = PAUSE_S
        return answer

    def _to(self, server: Server) -> Line:
        line = self._lines.get(server)
        if line is None:
            for gone in [known for known in self._lines.copy() if not self._route.serves(known)]:
                self._lines.pop(gone).close()
            line = self._lines.setdefault(server, Line(self._session, server))
        return line

    def close(self) -> None:
        """Close every line; the next call opens it again."""
        for line in list(self._lines.copy().values()):
            line.close()


class AsyncLines:
    """For the tasks of event loops: a connection belongs to the loop that opened it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._route = session.route
        self._changing = Lock()
        self._lines: dict[asyncio.AbstractEventLoop, dict[Server, AsyncLine]] = {}

    def claim(self, asked: Asked) -> Any:
        """See Lines."""
        return self._sent(self._session.codec.key(asked[0]), _claims, asked)

    def call(self, call: Call) -> Any:
        """See Lines."""
        return self._sent(call.keys[0], _others, call)

    async def _sent(self, key: bytes, of_line: Callable[[AsyncLine], Any], item: Asked | Call) -> Answer:
        until_s = time.monotonic() + self._route.timeout_s
        server = self._route.server(key)
        if server is None:
            server = await asyncio.to_thread(self._route.found, key)
        answer = await of_line(await self._to(server)).ask(item)
        pause_s = 0.0
        while isinstance(answer, Redirect) and time.monotonic() < until_s:
            await asyncio.sleep(pause_s)
            answer = await of_line(await self._to(answer.server)).ask(item)
            pause_s = PAUSE_S
        return answer

    async def _to(self, server: Server) -> AsyncLine:
        """The line of the running loop."""
        lines = self._here()
        line = lines.get(server)
        if line is None:
            for gone in [known for known in lines if not self._route.serves(known)]:
                await lines.pop(gone).close()
            line = lines.setdefault(server, AsyncLine(self._session, server))
        return line

    def _here(self) -> dict[Server, AsyncLine]:
        loop = asyncio.get_running_loop()
        lines = self._lines.get(loop)
        return self._new(loop) if lines is None else lines

    def _new(self, loop: asyncio.AbstractEventLoop) -> dict[Server, AsyncLine]:
        # The loops of several threads may come at once, and what one of them looks at is never changed.
        with self._changing:
            lines = {known: there for known, there in self._lines.items() if not known.is_closed()}
            here = lines[loop] = {}
            self._lines = lines
        return here

    async def close(self) -> None:
        """Close every line of the running loop; the next call opens it again."""
        for line in list(self._here().values()):
            await line.close()
