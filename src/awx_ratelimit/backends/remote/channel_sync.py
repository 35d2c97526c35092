"""Carries claims to the servers and decisions back.

Generated from `channel.py` by tools/generate_sync.py: change that module and run the program again.
"""

import time
from functools import partial
from typing import Any

from awx_ratelimit.backends.remote.channel import Selector, ThreadChannels, claims, other_calls
from awx_ratelimit.backends.remote.pending_claims import PendingClaim
from awx_ratelimit.backends.remote.replies import Call, Redirect, Reply
from awx_ratelimit.backends.remote.routing import REDIRECT_PAUSE_S, Server
from awx_ratelimit.backends.remote.sent import SentCalls, ignore
from awx_ratelimit.backends.remote.sent_claims import SentClaims
from awx_ratelimit.backends.remote.session import Session
from awx_ratelimit.backends.remote.thread_batching import ThreadBatching
from awx_ratelimit.core.budget import Record


class Channel:
    """A channel to one server."""

    def __init__(self, session: Session, server: Server) -> None:
        open_on_use = session.dialect.connection
        claims, others = self._connections = open_on_use(server), open_on_use(server)
        self.claims = ThreadBatching(
            claims.run, partial(SentClaims, session, server), session.abandon, timeout_s=server.timeout_s
        )
        self.other_calls = ThreadBatching(others.run, SentCalls, ignore, timeout_s=server.timeout_s)

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        for connection in self._connections:
            connection.close()


class Channels(ThreadChannels[Channel]):
    """The channels to all servers."""

    def claim(self, claim: PendingClaim) -> Any:
        """The outcome of a claim. Raises BackendUnavailable if there is no reply."""
        channel = self._current().get(self._session.only_server)
        # A single server never redirects.
        return channel.claims.send(claim) if channel else self._send(claim[0], claims, claim)

    def call(self, record: Record, call: Call) -> Any:
        """The reply to any other call. Raises BackendUnavailable if there is none."""
        return self._send(record, other_calls, call)

    def _send(self, record: Record, selected: Selector, item: PendingClaim | Call) -> Reply:
        until_s = time.monotonic() + self._session.route.timeout_s
        server = self._session.home(record)
        if server is None:
            server = self._session.find_server(record)
        reply = selected(self._current().get(server) or self._open(server)).send(item, until_s)
        return self._follow(server, reply, selected, item, until_s) if isinstance(reply, Redirect) else reply

    def _follow(
        self, server: Server, reply: Reply, selected: Selector, item: PendingClaim | Call, until_s: float
    ) -> Reply:
        pause_s = 0.0
        while isinstance(reply, Redirect) and time.monotonic() < until_s:
            time.sleep(pause_s)
            server = reply.server or server
            channel = self._current().get(server) or self._open(server)
            reply, pause_s = selected(channel).send(item, until_s), REDIRECT_PAUSE_S
        return reply

    def _open(self, server: Server) -> Channel:
        """A new channel. Closes the channels to servers that are gone."""
        channels = self._current()
        for gone in [known for known in channels.copy() if known and not self._session.route.serves(known)]:
            channel = channels.pop(gone, None)
            if channel is not None:
                channel.close()
        return channels.setdefault(server, Channel(self._session, server))

    def close(self) -> None:
        """Close these channels; the next call opens new ones."""
        for channel in self._remove_all():
            channel.close()
