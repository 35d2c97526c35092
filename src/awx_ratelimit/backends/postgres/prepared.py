"""Which statements a connection has prepared, so that the server parses and plans each only once.

Names are digests, so a statement that a pooler has given to another connection is missing there, but is never another
one. Then the call has done nothing: it is sent again without a name, and this process prepares nothing any more.
"""

from typing import Any, Final

from awx_ratelimit.backends.postgres.arrays import BINARY
from awx_ratelimit.backends.postgres.schema import Call
from awx_ratelimit.backends.postgres.server import Refusal, Server

#: Statements of plans that are no longer in use stay prepared as long as their connection.
MAX_PREPARED: Final = 64
#: In ms.
SHORT_LOCK_TIMEOUT: Final = b"1"


class Prepared:
    """The prepared statements of one connection."""

    def __init__(self, connection: Any, server: Server) -> None:
        self._connection = connection
        self._server = server
        self._lock_timeout = server.lock_timeout
        #: By name: whether it is prepared, or was only seen.
        self._names: dict[bytes, bool] = {}
        #: The name that the last request has used, and the statement that it prepares.
        self._used: bytes | None = None
        self._preparing = False

    def begin(self) -> None:
        """The next calls belong together."""
        self._lock_timeout = self._server.lock_timeout

    def send(self, call: Call) -> None:
        """Begin to send `call`, or first to prepare its statement. Give the outcome to `is_final`."""
        statement, parameters, _ = call
        parameters = (*parameters, self._lock_timeout)
        name = statement.name
        is_prepared = self._names.get(name)
        self._preparing = False
        if is_prepared:
            self._used = name
            self._connection.send_query_prepared(name, parameters, statement.formats, BINARY)
        elif is_prepared is None or self._server.is_pooled:
            # A statement that is used once is not worth another round trip.
            self._used = None
            if len(self._names) < MAX_PREPARED:
                self._names[name] = False
            self._connection.send_query_params(statement.text, parameters, statement.types, statement.formats, BINARY)
        else:
            self._used, self._preparing = name, True
            self._connection.send_prepare(name, statement.text, statement.types)

    def is_final(self, outcome: Any) -> bool:
        """Whether `outcome` is that of the call. If not, the call was not run: `send` it now."""
        refused = isinstance(outcome, Refusal)
        if refused and outcome.is_locked:
            # The calls after it must not wait as long as well.
            self._lock_timeout = SHORT_LOCK_TIMEOUT
        if self._used and refused and outcome.is_about_names:
            self._server.is_pooled = True
            self._names.clear()
            return False
        if self._preparing and not refused:
            self._names[self._used or b""] = True
            return False
        return True
