"""A database: how to connect to it, and what its errors mean to its operator."""

from typing import Any

from awx_ratelimit.backends.postgres.address import addresses, name_of
from awx_ratelimit.backends.postgres.hosts import Hosts
from awx_ratelimit.backends.postgres.migration import Migration, migrate
from awx_ratelimit.backends.postgres.remedies import remedy_for, short_text
from awx_ratelimit.backends.postgres.schema import CORRUPTION_CODES
from awx_ratelimit.backends.remote.replies import locked_error
from awx_ratelimit.errors import BackendMisconfigured, BackendUnavailable, StateDamaged
from awx_ratelimit.runtime.deadlines import Deadline

#: The share of the timeout for one lock. A record can make a call wait twice: behind others that wait for it, and for
#: its holder. Claims of other records wait for the call before, and their own. All of this must fit into the timeout.
_LOCK_SHARE = 0.2


class Refusal(Exception):
    """The server refused a call, and did nothing of it."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code

    @property
    def is_unknown(self) -> bool:
        """Whether the functions or tables are missing."""
        return self.code in ("42883", "42P01", "3F000", "42704")

    @property
    def may_succeed(self) -> bool:
        """Whether the same call may succeed now: it was rolled back because of other calls."""
        return self.code in ("40001", "40P01")

    @property
    def is_locked(self) -> bool:
        """Whether another transaction has kept a record locked for too long."""
        return self.code == "55P03"

    @property
    def is_about_names(self) -> bool:
        """Whether a prepared statement is missing or was there before, because of a pooler."""
        return self.code in ("26000", "42P05")

    @property
    def ends_connection(self) -> bool:
        """Whether the connection is of no more use: it ends, or leads to a standby."""
        return self.code[:2] in ("08", "57") or self.code == "25006"


class Server:
    """The database at `addresses`, one for each of its hosts. A call fails if it has no reply within `timeout_s`.

    `place` is the ``schema.prefix`` of its tables.
    """

    def __init__(self, addresses: list[str], place: str, *, timeout_s: float) -> None:
        self._hosts = Hosts(addresses, timeout_s)
        self._migration: Migration | None = None
        self.place = place
        self.timeout_s = timeout_s
        #: How long a call waits for each lock, in ms.
        self.lock_timeout = str(max(1, int(_LOCK_SHARE * timeout_s * 1000))).encode()
        #: The name in error messages.
        self.name = name_of(addresses)
        self.home: Server = self
        #: The number of answered calls that carried claims. The circuit breaker counts calls, but it sees claims.
        self.answered_calls = 0
        #: Whether prepared statements get lost, because a pooler gives each transaction any connection.
        self.is_pooled = False

    @property
    def conninfo(self) -> str:
        """The address of the host that was connected last."""
        return self._hosts.conninfo

    def open(self, deadline: Deadline) -> Any:
        """A new connection. Nothing waits longer than `deadline`. Raises CLIENT_ERRORS."""
        return self._hosts.open(deadline)

    def migrate(self) -> None:
        """Create or update tables and functions. Raises CLIENT_ERRORS."""
        migrate(self.conninfo, self.place)

    def migrate_within(self, seconds: float) -> None:
        """`migrate` in a thread, one for all calls. It goes on if this raises TimeoutError after `seconds`."""
        running = self._migration
        if running is None or not running.is_alive():
            running = self._migration = Migration(self.conninfo, self.place)
            running.start()
        running.wait(seconds)

    def explain(self, error: BaseException) -> BackendUnavailable:
        """`error` with the name of the server and a remedy for its operator."""
        if isinstance(error, BackendUnavailable):
            return error
        text = short_text(error)
        if isinstance(error, TimeoutError):
            return BackendUnavailable(f"postgresql at {self.name} did not answer within {self.timeout_s * 1000:g} ms")
        if isinstance(error, Refusal) and error.is_locked:
            return locked_error(f"postgresql at {self.name}: a record")
        code = error.code if isinstance(error, Refusal) else getattr(error, "sqlstate", None) or ""
        if code.startswith(CORRUPTION_CODES):
            return StateDamaged(f"postgresql at {self.name}: a record is corrupt; reset its subject ({text})")
        if remedy := remedy_for(code, text, self.place.partition(".")[0]):
            return BackendMisconfigured(f"postgresql at {self.name}: {text}; {remedy}")
        return BackendUnavailable(f"postgresql at {self.name}: {text}")


def server_at(url: str, place: str, *, timeout_ms: int) -> Server:
    """The server at `url`. Raises ValueError for a wrong URL."""
    return Server(addresses(url), place, timeout_s=timeout_ms / 1000)
