"""One connection to a database, which runs calls of functions, each in a transaction of its own.

A call that the server may have run is never sent twice. What it rolled back is sent again. After anything but a
complete reply, the connection is closed, because the next reply on it could belong to an earlier call.

Nothing depends on the state of a session, so a pooler may give each transaction another connection.
"""

import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import psycopg
from psycopg import pq

from awx_ratelimit.backends.postgres.arrays import read_bigints
from awx_ratelimit.backends.postgres.hosts import CLIENT_ERRORS, await_poller, await_socket, close_quietly, new_poller
from awx_ratelimit.backends.postgres.prepared import Prepared
from awx_ratelimit.backends.postgres.schema import Call
from awx_ratelimit.backends.postgres.server import Refusal, Server
from awx_ratelimit.backends.remote.replies import Reply, not_sent_error
from awx_ratelimit.runtime.deadlines import Deadline

#: How often a call that was rolled back because of others is sent again. Its time bounds it too.
MAX_TRIES = 100


def read_outcome(connection: Any) -> Any:
    """The reply that has arrived: numbers, or a Refusal; for a statement that was prepared, no numbers."""
    outcome: Any = None
    while (result := connection.get_result()) is not None:
        if result.status == pq.ExecStatus.TUPLES_OK:
            outcome = read_bigints(result.get_value(0, 0) or b"")
        elif result.status == pq.ExecStatus.COMMAND_OK:
            outcome = ()
        else:
            code = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
            outcome = Refusal(code, result.error_message.decode(errors="replace").strip())
    if outcome is None or (isinstance(outcome, Refusal) and not outcome.code):
        raise psycopg.OperationalError(connection.error_message.decode(errors="replace").strip() or "connection lost")
    return outcome


class Connection:
    """Runs the calls of threads, one at a time. It opens on first use."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._lock = threading.Lock()
        self._deadline = Deadline()
        self._connection: Any = None
        self._prepared: Any = None
        #: Waits for something to read on the connection; None: it must be made for each wait.
        self._unread: Any = None
        self._closings = 0

    def run(self, calls: Sequence[Call], until_s: float | None = None) -> list[Reply]:
        """The reply to each call. Raises BackendUnavailable if there are none.

        Everything, including opening the connection, ends by `until_s` or within the server's timeout.
        """
        until_s = until_s or time.monotonic() + self._server.timeout_s
        take = partial(self._lock.acquire, timeout=max(0.0, until_s - time.monotonic()))
        # A loop with one turn: between `acquire` and `try`, a signal handler could raise and leave the lock taken.
        for _ in iter(take, False):
            try:
                if not self._deadline.begin(until_s):
                    break
                return self._run(calls)
            finally:
                self._lock.release()
        raise not_sent_error(f"late: postgresql at {self._server.name} is still busy with the previous call")

    def _run(self, calls: Sequence[Call]) -> list[Reply]:
        try:
            if self._prepared is not None:
                self._prepared.begin()
            return [self._reply(call) for call in calls]
        except BaseException as error:
            self._drop()
            if isinstance(error, CLIENT_ERRORS):
                raise self._server.explain(error) from error
            raise

    def _reply(self, call: Call) -> Reply:
        has_migrated = False
        for _ in range(MAX_TRIES):
            outcome = self._exchange(call)
            if not isinstance(outcome, Refusal):
                return outcome
            if outcome.ends_connection:
                self._drop()
            if outcome.is_unknown and not has_migrated:
                has_migrated = True
                self._server.migrate_within(self._deadline.left_s())
                self._deadline.resume()
            elif not outcome.may_succeed:
                break
        return self._server.explain(outcome)

    def _exchange(self, call: Call) -> Any:
        connection = self._open()
        self._deadline.resume()
        while True:
            self._prepared.send(call)
            while connection.flush():
                await_socket(connection.socket, self._deadline, writing=True)
            while connection.is_busy():
                await_poller(self._poller(), self._deadline)
                connection.consume_input()
            outcome = read_outcome(connection)
            if self._prepared.is_final(outcome):
                return outcome

    def _open(self) -> Any:
        if self._connection is not None and not _is_dead(self._connection, self._poller()):
            return self._connection
        self._drop()
        closings = self._closings
        connection = self._server.open(self._deadline)
        if closings != self._closings:
            close_quietly(connection)
            raise ConnectionAbortedError("the connection was closed while it was opened")
        self._connection, self._prepared = connection, Prepared(connection, self._server)
        poller = new_poller(connection.socket)
        # One of gevent works only in the thread that has made it. To make one takes longer than to ask it.
        self._unread = poller if type(poller).__module__ == "select" else None
        return connection

    def _poller(self) -> Any:
        return self._unread or new_poller(self._connection.socket)

    def _drop(self) -> None:
        """Close the connection without waiting for the server."""
        connection, self._connection = self._connection, None
        if connection is not None:
            close_quietly(connection)

    def close(self) -> None:
        """Close the connection; the next call opens a new one."""
        self._closings += 1
        self._drop()


def _is_dead(connection: Any, poller: Any) -> bool:
    """Whether the server has closed an idle connection. Never waits."""
    if not poller.poll(0):
        return bool(connection.status != pq.ConnStatus.OK)
    try:
        # Perhaps a notice.
        connection.consume_input()
    except psycopg.Error:
        return True
    return bool(connection.status != pq.ConnStatus.OK) or bool(poller.poll(0))
