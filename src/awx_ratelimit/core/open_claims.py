"""`OpenClaims`: what must be known to give a declared claim's tokens back exactly as if it had cost less.

A claim that costs less than it was charged gets back the difference, but at most the lowest debt of the bucket since
the claim: what has drained without it would have drained anyway. So for each bucket a record keeps the lowest debt
between one declared claim and the next. The lowest debt since a claim is the smallest of those from its own on.

Giving back lowers them by what is given: the debt would have been that much lower all the time.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

#: A claim can be given back exactly for this long, and while there are no more open ones in its record.
OPEN_MS: Final = 600_000
MAX_OPEN: Final = 1_000


class OpenClaim(NamedTuple):
    """A declared claim. `limits` are those that it was charged by. `lows` are the lowest debts until the next claim."""

    id: int
    charged_at_ms: int
    limits: set[str]
    lows: dict[str, int]


class OpenClaims:
    """The open declared claims of one record, in the order in which they were charged."""

    __slots__ = ("claims",)

    def __init__(self, claims: Iterable[OpenClaim] = ()) -> None:
        self.claims = [*claims]

    def __len__(self) -> int:
        return len(self.claims)

    def add(self, claim_id: int, now_ms: int, debts: dict[str, int]) -> None:
        """Add a claim that was charged just now. `debts` are those of the limits that it was charged by."""
        self.drop_old(now_ms)
        self.claims.append(OpenClaim(claim_id, now_ms, set(debts), dict(debts)))
        del self.claims[:-MAX_OPEN]

    def note(self, limit: str, debt: int) -> None:
        """The debt of `limit` was as low as `debt` just now."""
        lows = self.claims[-1].lows
        if debt < lows.get(limit, debt + 1):
            lows[limit] = debt

    def give_back(self, claim_id: int, limit: str, amount: int, debt: int) -> int | None:
        """What of `amount` is given back to a claim, for a limit with this debt now. None if that is not known."""
        self.note(limit, debt)
        since = self._since(claim_id)
        if not since or limit not in since[0].limits:
            return None
        known = [claim.lows for claim in since if limit in claim.lows]
        given = min(amount, *(lows[limit] for lows in known))
        for lows in known:
            lows[limit] -= given
        return given

    def close(self, claim_id: int) -> None:
        """Forget a claim: it is settled."""
        since = self._since(claim_id)
        if not since:
            return
        at = len(self.claims) - len(since)
        if at:
            before = self.claims[at - 1].lows
            for limit, debt in since[0].lows.items():
                before[limit] = min(debt, before.get(limit, debt))
        del self.claims[at]

    def forget(self, limits: Iterable[str]) -> None:
        """These limits are counted otherwise from now on: no open claim can be given back by them exactly."""
        for claim in self.claims:
            for limit in limits:
                claim.limits.discard(limit)
                claim.lows.pop(limit, None)

    def drop_old(self, now_ms: int) -> None:
        """Forget the claims that are older than `OPEN_MS`."""
        while self.claims and now_ms - self.claims[0].charged_at_ms > OPEN_MS:
            del self.claims[0]

    def _since(self, claim_id: int) -> list[OpenClaim]:
        """This claim and all after it; empty if it is not open."""
        for at, claim in enumerate(self.claims):
            if claim.id == claim_id:
                return self.claims[at:]
        return []
