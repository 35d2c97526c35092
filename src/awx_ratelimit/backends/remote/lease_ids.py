"""The ids of the leases that claims may take, and which of them are in flight.

A batch of claims gets its ids at once, when it is sent. What was not run is sent again with new ids.
"""

import threading
from collections.abc import Callable, Sequence
from typing import NoReturn

from awx_ratelimit.backends.remote.pending_claims import PendingClaim, plans_of, with_id
from awx_ratelimit.backends.remote.replies import not_sent_error
from awx_ratelimit.runtime.exits import sleep_until_exit


class LeaseIds:
    """`new_lease_id` returns ids in ascending order."""

    def __init__(self, new_lease_id: Callable[[], int]) -> None:
        self._new_lease_id = new_lease_id
        #: The first id of each batch in flight, and those of claims that take several calls, in ascending order.
        self._in_flight: dict[int, None] = {}
        # Without it, settled_below() between the two steps would miss a claim that is about to be sent.
        self._lock = threading.Lock()
        #: Whether the process exits: claims of slots are refused.
        self.refuses_slots = False

    def new(self) -> int:
        """The id of a claim that takes several calls. It is in flight until `finish`."""
        with self._lock:
            lease_id = self._new_lease_id()
            self._in_flight[lease_id] = None
        return lease_id

    def give(self, claims: Sequence[PendingClaim]) -> tuple[int, list[PendingClaim]]:
        """`claims` that are sent now, with ids. They are in flight until `finish` of the first id.

        The first id is 0 if no claim needs one. Raises BackendUnavailable for claims of slots while the process exits.
        """
        with self._lock:
            refused = self.refuses_slots and any(plan.slot_bit for claim in claims for _, plan in plans_of(claim))
            if not refused:
                return self._give(claims)
        return refuse_slot()

    def _give(self, claims: Sequence[PendingClaim]) -> tuple[int, list[PendingClaim]]:
        first, given, new = 0, list[PendingClaim](), self._new_lease_id
        for claim in claims:
            if claim[3] < 0:
                lease_id = new()
                first = first or lease_id
                given.append(with_id(claim, lease_id))
            else:
                given.append(claim)
        if first:
            self._in_flight[first] = None
        return first, given

    def finish(self, first: int) -> None:
        """The claims with this id, and those of its batch, have their answers or will get none."""
        self._in_flight.pop(first, None)

    def settled_below(self) -> int:
        """An id below which no claim is in flight: a lease with a lower id is either open or over."""
        with self._lock:
            return min((self._new_lease_id(), *list(self._in_flight)[:1]))

    def in_flight(self) -> set[int]:
        """An id for each batch of claims in flight, and for each claim that takes several calls."""
        return set(self._in_flight.copy())

    def refuse_slots(self) -> None:
        """Refuse claims of slots from now on: while the process exits, nothing would release what threads take."""
        with self._lock:
            self.refuses_slots = True


def refuse_slot() -> NoReturn:
    """Raise the error for a claim of a slot while the process exits."""
    sleep_until_exit()
    raise not_sent_error("exiting: it has released its slots and takes no more")
