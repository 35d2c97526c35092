"""`OpenClaims`: what must be known to give a declared claim's tokens back exactly as if it had cost less.

A claim that costs less than it was charged gets back the difference, but at most the lowest debt of the bucket since
the claim: what has drained without it would have drained anyway. Giving back lowers the lowest debts of all later
claims by what is given: the debt would have been that much lower all the time.

The lowest debt since a claim is never lower than that since an earlier one. So for each limit a record keeps only by
how much it rises from one claim to the next, where it does. The lowest debt since a claim is the sum of the steps up to
it. A lower debt, and tokens that are given back, take from the last of these steps.

A signal handler that raises leaves a valid state: the statements that belong together have no call between them.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from operator import attrgetter
from typing import Final, NamedTuple

#: A claim can be given back exactly for this long, and while there are no more open ones in its record. A backend may
#: forget it as soon as the clock is further than this from its charge, also before it.
OPEN_MS: Final = 600_000
MAX_OPEN: Final = 1_000


class OpenClaim(NamedTuple):
    """A declared claim, the place in the order of charges, and the limits that it was charged by."""

    id: int
    place: int
    charged_at_ms: int
    limits: set[str]


_place = attrgetter("place")


class _Lows:
    """The lowest debts of one limit: at each of `places`, by how much the debt since that place is larger."""

    __slots__ = ("places", "steps", "total")

    def __init__(self) -> None:
        self.places: list[int] = []
        self.steps: list[int] = []
        self.total = 0

    def add(self, place: int, debt: int) -> None:
        """A claim at `place` was charged just now, which made the debt as large as `debt`."""
        self.note(debt)
        if debt > self.total:
            self.places += (place,)
            self.steps += (debt - self.total,)
            self.total = debt

    def note(self, debt: int) -> None:
        """The debt was as low as `debt` just now."""
        if debt < self.total:
            self._lower(len(self.steps), self.total - debt)

    def give_back(self, place: int, amount: int) -> int:
        """What of `amount` the claim at `place` gets back."""
        end = bisect_right(self.places, place)
        given = min(amount, sum(self.steps[:end]))
        self._lower(end, given)
        return given

    def _lower(self, end: int, amount: int) -> None:
        """Take `amount` from the last of the steps before `end`."""
        first, left = end, amount
        while left > 0:
            first -= 1
            left -= self.steps[first]
        if left < 0:
            self.steps[first] = -left
            first += 1
        del self.places[first:end], self.steps[first:end]
        self.total -= amount

    def close(self, place: int, next_place: int | None) -> None:
        """Move the step of a claim to the one after it, because earlier claims do not depend on it."""
        at = bisect_left(self.places, place)
        if at == len(self.places) or self.places[at] != place:
            return
        if next_place is None:
            self.total -= self.steps[at]
            del self.places[at], self.steps[at]
        elif self.places[at + 1 : at + 2] == [next_place]:
            self.steps[at + 1] += self.steps[at]
            del self.places[at], self.steps[at]
        else:
            self.places[at] = next_place


class OpenClaims:
    """The open declared claims of one record, in the order in which they were charged."""

    __slots__ = ("_by_id", "_lows", "_places", "claims")

    def __init__(self) -> None:
        self.claims: list[OpenClaim] = []
        self._by_id: dict[int, OpenClaim] = {}
        self._lows: dict[str, _Lows] = {}
        self._places = 0

    def __len__(self) -> int:
        return len(self.claims)

    def add(self, claim_id: int, now_ms: int, debts: dict[str, int]) -> None:
        """Add a claim that was charged just now. `debts` are those of the limits that it was charged by."""
        self.drop_old(now_ms)
        self._places += 1
        claim = OpenClaim(claim_id, self._places, now_ms, {*debts})
        self.claims += (claim,)
        self._by_id[claim_id] = claim
        for limit, debt in debts.items():
            lows = self._lows.get(limit)
            if lows is None:
                lows = self._lows[limit] = _Lows()
            lows.add(self._places, debt)
        if len(self.claims) > MAX_OPEN:
            self._remove(0)

    def note(self, limit: str, debt: int) -> None:
        """The debt of `limit` was as low as `debt` just now."""
        lows = self._lows.get(limit)
        if lows is not None:
            lows.note(debt)

    def give_back(self, claim_id: int, limit: str, amount: int, debt: int) -> int | None:
        """What of `amount` is given back to a claim, for a limit with this debt now. None if that is not known."""
        self.note(limit, debt)
        claim = self._by_id.get(claim_id)
        return self._lows[limit].give_back(claim.place, amount) if claim and limit in claim.limits else None

    def close(self, claim_id: int) -> None:
        """Forget a claim: it is settled."""
        claim = self._by_id.get(claim_id)
        if claim is not None:
            self._remove(bisect_left(self.claims, claim.place, key=_place))

    def forget(self, limits: Iterable[str]) -> None:
        """These limits are counted otherwise from now on: no open claim can be given back by them exactly."""
        for limit in limits:
            self._lows.pop(limit, None)
            for claim in self.claims:
                claim.limits.discard(limit)

    def drop_old(self, now_ms: int) -> None:
        """Forget the claims that are older than `OPEN_MS`, and those of a clock that was as much ahead."""
        while self.claims and abs(now_ms - self.claims[0].charged_at_ms) > OPEN_MS:
            self._remove(0)

    def _remove(self, at: int) -> None:
        claim = self.claims[at]
        del self.claims[at], self._by_id[claim.id]
        next_place = self.claims[at].place if at < len(self.claims) else None
        for lows in self._lows.values():
            lows.close(claim.place, next_place)
