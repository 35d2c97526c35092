"""The way of claims to the servers and back.

Generated from `channel.py` by tools/generate_sync.py: change that module and run the program again.
"""

import time
from collections.abc import Sequence
from typing import Any

from awx_ratelimit.backends.redis.channel import Selector, claims, nobody, others
from awx_ratelimit.backends.redis.channel_registry import ThreadChannels
from awx_ratelimit.backends.redis.codec import Call, PendingClaim
from awx_ratelimit.backends.redis.connection import Reply
from awx_ratelimit.backends.redis.connection_sync import Connection
from awx_ratelimit.backends.redis.fan_out import PAUSE_S
from awx_ratelimit.backends.redis.server import Redirect, Server
from awx_ratelimit.backends.redis.session import Outcome, Session
from awx_ratelimit.backends.redis.thread_batching import ThreadBatching


class Channel:
    """A channel to one server."""

    def __init__(self, session: Session, server: Server) -> None:
        self._session = session
        self._server = server
        self._claim_connection = Connection(server)
        self._call_connection = Connection(server)
        #: Claims, and what became of each.
        self.claims = ThreadBatching(self._decide, session.abandon, session.unanswered, timeout_s=server.timeout_s)
        #: Any other calls.
        self.others = ThreadBatching(self._call_connection.run, nobody, nobody, timeout_s=server.timeout_s)

    def _decide(self, batch: Sequence[PendingClaim], until_s: float) -> list[Outcome]:
        parts = self._session.acquire(batch, self._server)
        answers = self._claim_connection.run([part.call for part in parts], until_s)
        self._server.home.answered_calls += 1
        return self._session.decisions(batch, parts, answers)

    def close(self) -> None:
        """Close the connections; the next call opens others."""
        self._claim_connection.close()
        self._call_connection.close()


class Channels(ThreadChannels[Channel]):
    """The channels to all servers."""

    def claim(self, asked: PendingClaim) -> Any:
        """What became of a claim. Raises BackendUnavailable where it had no answer."""
        line = self._here().get(self._session.only)
        # One server sends nothing on.
        return line.claims.ask(asked) if line else self._sent(asked[0], claims, asked)

    def call(self, subject: str, call: Call) -> Any:
        """What any other call was answered. Raises BackendUnavailable where it had no answer."""
        return self._sent(subject, others, call)

    def _sent(self, subject: str, of_line: Selector, item: PendingClaim | Call) -> Reply:
        until_s = time.monotonic() + self._session.route.timeout_s
        server = self._session.home(subject)
        if server is None:
            server = self._session.found(subject)
        answer = of_line(self._here().get(server) or self._opened(server)).ask(item, until_s)
        return self._sent_on(answer, of_line, item, until_s) if isinstance(answer, Redirect) else answer

    def _sent_on(self, answer: Reply, of_line: Selector, item: PendingClaim | Call, until_s: float) -> Reply:
        pause_s = 0.0
        while isinstance(answer, Redirect) and time.monotonic() < until_s:
            time.sleep(pause_s)
            line = self._here().get(answer.server) or self._opened(answer.server)
            answer, pause_s = of_line(line).ask(item, until_s), PAUSE_S
        return answer

    def _opened(self, server: Server) -> Channel:
        """A new line, in place of those to servers that are gone."""
        lines = self._here()
        for gone in [known for known in lines.copy() if known and not self._session.route.serves(known)]:
            line = lines.pop(gone, None)
            if line is not None:
                line.close()
        return lines.setdefault(server, Channel(self._session, server))

    def close(self) -> None:
        """Close these channels; the next call opens them again."""
        for line in self._left():
            line.close()
