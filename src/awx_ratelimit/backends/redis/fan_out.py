"""Calls to whichever servers they belong to, for who can wait: one link to each, one after the other."""

import time
from collections.abc import Sequence

from awx_ratelimit.backends.redis.codec import Call
from awx_ratelimit.backends.redis.connection import Reply
from awx_ratelimit.backends.redis.connection_sync import Connection
from awx_ratelimit.backends.redis.routing import Route
from awx_ratelimit.backends.redis.server import Redirect, Server
from awx_ratelimit.errors import BackendUnavailable

#: Between two tries of a call whose slot is on its way to another server.
PAUSE_S = 0.002


class FanOut:
    """For threads. A link is opened when it is first used."""

    def __init__(self, route: Route) -> None:
        self._route = route
        self._fan_out: dict[Server, Connection] = {}

    def run(self, calls: Sequence[Call], until_s: float | None = None) -> list[Reply]:
        """What each call answered, in one round trip to each server; BackendUnavailable stands where none came.

        With `until_s` all of it ends by then; without it each server has the time of a call.
        """
        call_until_s, until_s = until_s, until_s or time.monotonic() + self._route.timeout_s
        answers: list[Reply] = [None] * len(calls)
        to: dict[int, Server] = {}
        for number, call in enumerate(calls):
            try:
                to[number] = self._route.server(call.keys[0]) or self._route.found(call.keys[0])
            except BackendUnavailable as error:
                answers[number] = error
        self._run(calls, to, answers, call_until_s)
        pause_s = 0.0
        while to := {number: answer.server for number, answer in enumerate(answers) if isinstance(answer, Redirect)}:
            if time.monotonic() > until_s:
                return [answer.error if isinstance(answer, Redirect) else answer for answer in answers]
            time.sleep(pause_s)
            self._run(calls, to, answers, call_until_s)
            pause_s = PAUSE_S
        return answers

    def _run(self, calls: Sequence[Call], to: dict[int, Server], answers: list[Reply], until_s: float | None) -> None:
        """Send the calls of these numbers, each to its server, and put what they answer among `answers`."""
        at: dict[Server, list[int]] = {}
        for number, server in to.items():
            at.setdefault(server, []).append(number)
        for server, numbers in at.items():
            for number, answer in zip(
                numbers, self._answers(server, [calls[n] for n in numbers], until_s), strict=True
            ):
                answers[number] = answer

    def _answers(self, server: Server, calls: list[Call], until_s: float | None) -> list[Reply]:
        try:
            return self._claim_connection(server).run(calls, until_s)
        except BackendUnavailable as error:
            return [error] * len(calls)

    def _claim_connection(self, server: Server) -> Connection:
        link = self._fan_out.get(server)
        if link is None:
            for gone in [known for known in self._fan_out.copy() if not self._route.serves(known)]:
                closed = self._fan_out.pop(gone, None)
                if closed is not None:
                    closed.close()
            link = self._fan_out.setdefault(server, Connection(server))
        return link

    def close(self) -> None:
        """Close the connections; the next call opens others."""
        for link in list(self._fan_out.copy().values()):
            link.close()
