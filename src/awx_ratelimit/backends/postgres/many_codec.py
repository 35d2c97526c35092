"""Encodes calls of many plain claims. See `many` and plain.sql for the layouts."""

from collections.abc import Sequence
from typing import Final

from awx_ratelimit.backends.postgres.arrays import bigint, bigints, booleans, byteas, texts
from awx_ratelimit.backends.postgres.keys import Keys, Place
from awx_ratelimit.backends.postgres.plan_encoding import Charges, SingleStatements, checked_time
from awx_ratelimit.backends.postgres.schema import ACQUIRE_MANY, ACQUIRE_PLAIN, Call, statement
from awx_ratelimit.backends.remote.encoding import SEQUENCE, Moments
from awx_ratelimit.backends.remote.pending_claims import PlainClaim, ReleasedLease
from awx_ratelimit.core.joint_claim import Charge
from awx_ratelimit.core.plan import Plan

_NO_MOMENTS: Final = Moments(0)
_RARE: Final = -1


class _Part:
    """What a call asks of one record. `claims` are sequences and positions of charges, by turns."""

    __slots__ = ("claims", "gone", "rates", "terms_at")

    def __init__(self) -> None:
        self.claims: list[int] = []
        self.gone: list[int] = []
        #: The number of rates of its claim; _RARE for claims that only acquire_plain knows.
        self.rates = 0
        self.terms_at = 0


class ManyClaims:
    """The claims and releases of one call."""

    def __init__(self, keys: Keys, singles: SingleStatements) -> None:
        self._keys = keys
        self._singles = singles
        self._charges = Charges()
        self._terms: list[int] = []
        self._parts: dict[Place, _Part] = {}

    def add(self, claims: Sequence[PlainClaim], released: Sequence[ReleasedLease]) -> None:
        """Add claims, and leases to release before."""
        order, parts = self._keys.order, self._parts
        last: tuple[Plan | None, int] = None, 0
        place = terms_at = rates = 0
        for record, plan, cost, lease_id in claims:
            if plan is not last[0] or cost != last[1]:
                last, place = (plan, cost), self._charges.place_of(Charge(plan, cost, None), _NO_MOMENTS)
                singles, terms_at, rates = self._singles.of(plan, cost), len(self._terms), _RARE
                if singles is not None:
                    rates = singles.rates
                    self._terms += singles.terms
            key = order(record)
            part = parts.get(key) or parts.setdefault(key, _Part())
            part.rates = rates if lease_id and not part.claims else _RARE
            part.terms_at = terms_at
            part.claims += (lease_id & SEQUENCE, place)
        for record, lease_id in released:
            key = order(record)
            part = parts.get(key) or parts.setdefault(key, _Part())
            part.gone.append(lease_id & SEQUENCE)

    def call(self, place: str, owner: tuple[int, int], now_ms: int | None) -> Call:
        """The call that decides them."""
        charges, parts = self._charges, self._parts
        records = sorted(parts)
        asked = list[int]()
        for each in records:
            part = parts[each]
            asked += (len(part.claims) // 2, len(part.gone), *part.gone, *part.claims)
        head = map(bigint, (checked_time(now_ms), *owner))
        places = byteas([subject for subject, _ in records]), texts([scope for _, scope in records])
        rest = bigints(asked), bigints(charges.numbers), texts(charges.heads)
        if len(records) == 1:
            return Call(statement(place, ACQUIRE_PLAIN), (*head, *places, *rest))
        rates, kinds = self._kinds(records)
        tags, wanted, tag = list[int](), list[bool](), 0
        for each in records:
            claims = parts[each].claims
            tag += bool(claims)
            tags.append(tag)
            wanted.append(any(claims[::2]))
        arrays = booleans(wanted), bigints(tags), *map(bigints, kinds), bigints(self._terms)
        return Call(statement(place, ACQUIRE_MANY[rates]), (*head, *places, *arrays, *rest))

    def _kinds(self, records: Sequence[Place]) -> tuple[int, list[list[int]]]:
        """The number of rates of the claims that UPDATEs decide, and their entries: next, slot, rates, gone."""
        chosen, charges = _RARE, self._charges.numbers
        kinds: list[list[int]] = [[], [], [], []]
        for number, each in enumerate(records, 1):
            part = self._parts[each]
            if len(part.gone) > 1 or part.rates == _RARE:
                continue
            gone = part.gone[0] if part.gone else 0
            if not part.claims:
                kinds[3] += (number, 0, gone, 0, 0)
                continue
            if chosen == _RARE:
                chosen = part.rates
            has_slots = self._terms[part.terms_at] > 0
            if part.rates == chosen and (has_slots or not gone):
                sequence, place = part.claims
                kind = kinds[0 if gone else 1] if has_slots else kinds[2]
                kind += (number, sequence, gone, part.terms_at, charges[place - 1])
        return max(0, chosen), kinds
