"""The primary of a service that sentinels watch, wherever it is by now.

A connection is opened to where they say that it is at that moment, and closed when it is seen to be the primary no
longer: so whoever opens the next one finds the new primary. A sentinel that does not answer costs its share of the
time of a call; the one that answered last is asked first.
"""

import time
from typing import Any

from redis.asyncio.sentinel import MasterNotFoundError as AsyncMasterNotFoundError
from redis.exceptions import ReadOnlyError
from redis.sentinel import MasterNotFoundError

from awx_ratelimit.backends.redis.address import Address
from awx_ratelimit.backends.redis.primary import Found, NoPrimary, async_primary_of
from awx_ratelimit.backends.redis.primary_sync import primary_of
from awx_ratelimit.backends.redis.server import Server, texts
from awx_ratelimit.backends.redis.transport import Endpoint
from awx_ratelimit.errors import BackendMisconfigured, BackendUnavailable
from awx_ratelimit.runtime.deadlines import Deadline


class Primary(Server):
    """See the module. `named` are the service and its sentinels."""

    def __init__(self, named: Address, endpoint: Endpoint, *, timeout_s: float, needed: str) -> None:
        super().__init__(endpoint, timeout_s=timeout_s, needed=needed)
        self._service = named.service
        share_s = timeout_s / (len(named.seeds) + 1)
        self._sentinels = [endpoint.at(*seed, share_s, db=0, **named.of_sentinels) for seed in named.seeds]
        self._watch = ", ".join(sentinel.place for sentinel in self._sentinels)
        self.name = f"{self._service} of the sentinels {self._watch}"

    def connection(self, deadline: Deadline) -> Any:
        """See Server. Waits for the sentinels."""
        until_s = time.monotonic() + self.timeout_s
        try:
            found = primary_of(self._service, self._sentinels)
        except NoPrimary as error:
            raise self._unknown(error) from None
        return self._there(found, until_s).new(deadline)

    async def async_connection(self) -> Any:
        """See Server. Waits for the sentinels."""
        until_s = time.monotonic() + self.timeout_s
        try:
            found = await async_primary_of(self._service, self._sentinels)
        except NoPrimary as error:
            raise self._unknown(error) from None
        return self._there(found, until_s).new_in_loop()

    def _there(self, found: Found, until_s: float) -> Endpoint:
        """How to connect to the primary in the time left. Asks the sentinel that named it first next time."""
        self._sentinels = sorted(self._sentinels, key=lambda sentinel: sentinel is not found.told_by)
        left_s = max(until_s - time.monotonic(), self.timeout_s / 10)
        there = self.endpoint.at(*found.place, left_s)
        self.name = f"{there.place}, the primary of {self._service},"
        return there

    def _unknown(self, none: NoPrimary) -> BackendUnavailable:
        """What to tell the operator if no sentinel names a primary."""
        sentinels, said = f"redis sentinels {self._watch}", str(none)
        if none.is_known:
            return BackendUnavailable(f"{sentinels}: the primary of {self._service} is down, and there is no other yet")
        if "AuthenticationError" in said:
            return BackendMisconfigured(f"{sentinels}: check ?sentinel_username= and &sentinel_password=")
        if not isinstance(none.error, MasterNotFoundError | AsyncMasterNotFoundError):
            return BackendMisconfigured(f"{sentinels}: they cannot be asked ({said})")
        if " : " not in said:
            return BackendMisconfigured(f"{sentinels}: they watch no service {self._service!r}")
        # What the client says here is all of its settings.
        return BackendUnavailable(f"{sentinels}: none that watches {self._service} can be reached")

    def welcome(self, connection: Any, greeting: Any) -> None:
        """See Server. Raises BackendUnavailable where it is no primary."""
        super().welcome(connection, greeting)
        if texts(greeting).get("role", "master") != "master":
            self._ask_another()
            raise BackendUnavailable(f"redis at {self.name} is that no longer, or not yet")

    def unavailable(self, error: BaseException) -> BackendUnavailable:
        """See Server."""
        if not isinstance(error, BackendUnavailable):
            self._ask_another()
        return super().unavailable(error)

    def explained(self, error: BaseException) -> BackendUnavailable:
        """See Server: a replica is one that was the primary."""
        if isinstance(error, ReadOnlyError):
            return BackendUnavailable(f"redis at {self.name} is that no longer: {error}")
        return super().explained(error)

    def _ask_another(self) -> None:
        """Who has named a primary that is none is asked last."""
        first, *others = self._sentinels
        self._sentinels = [*others, first]
