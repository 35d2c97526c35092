"""The leases to release, by server, until the server has released them.

Every step is one step of a dict, without a lock and without iterating over a dict that may change: a release may come
from a cancelled task, a finalizer or a signal handler.
"""

from collections.abc import Callable, Hashable, Iterable
from itertools import islice
from typing import TypeAlias

from awx_ratelimit.backends.remote.pending_claims import PendingClaim, ReleasedLease, records_of
from awx_ratelimit.core.budget import Record

#: A server, or None while it is not known which.
Home: TypeAlias = Hashable
#: A process that cannot reach its server keeps this many releases. Further leases lapse after their ttl.
MAX_PENDING = 100_000
#: What one call can carry.
_MAX_PER_CALL = 60_000


class PendingReleases:
    """`wake` is called when there is something to send. `home` returns the server of a record."""

    def __init__(self, wake: Callable[[], None], home: Callable[[Record], Home]) -> None:
        self._wake = wake
        self._home = home
        # Keyed by identity: a release that is repeated while the first is in flight must be sent again.
        self._by_home: dict[Home, dict[int, ReleasedLease]] = {}

    def add(self, record: Record, lease_id: int) -> None:
        """Release the slot of a record in a lease that is not open."""
        home = self._home(record)
        pending = self._by_home.get(home)
        if pending is None:
            pending = self._by_home.setdefault(home, {})
        if len(pending) < MAX_PENDING:
            lease = record, lease_id
            pending[id(lease)] = lease
        self._wake()

    def next(self, limit: int, home: Home, batch: Iterable[PendingClaim] = ()) -> list[ReleasedLease]:
        """The leases to release on a server with its next call. Two calls may carry the same lease; that is harmless.

        Returns all leases of the records in `batch`, and others up to `limit`.
        """
        leases = list(pending.copy().values()) if (pending := self._by_home.get(home)) else []
        if len(leases) <= limit:
            return leases
        records = {record for claim in batch for record in records_of(claim)}
        first = [lease for lease in leases if lease[0] in records][:_MAX_PER_CALL]
        others = (lease for lease in leases if lease[0] not in records)
        return first + list(islice(others, max(0, limit - len(first))))

    def homes(self) -> list[Home]:
        """Every server that ever had a lease to release."""
        return list(self._by_home.copy())

    def __contains__(self, lease: ReleasedLease) -> bool:
        return id(lease) in self._by_home.get(self._home(lease[0]), ())

    def remove(self, leases: list[ReleasedLease]) -> None:
        """Forget these releases, all of one server: the server has done them."""
        pending = self._by_home.get(self._home(leases[0][0])) if leases else None
        if pending:
            for lease in leases:
                pending.pop(id(lease), None)

    def regroup(self) -> None:
        """Assign the leases to their servers again, after records have moved."""
        for home, pending in self._by_home.copy().items():
            for lease in pending.copy().values():
                new_home = self._home(lease[0])
                if new_home is not home:
                    self._by_home.setdefault(new_home, {})[id(lease)] = lease
                    pending.pop(id(lease), None)
