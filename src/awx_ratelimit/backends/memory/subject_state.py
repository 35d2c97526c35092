"""The debts and leases of one subject in the memory backend. Protected by the lock of its shard, except as noted.

`levels` is the state of the rates in `layout`, as `core.decide` counts it. The list is replaced and never changed, so
a Decision can keep it. `kept` has the debts of limits that the subject's last plan does not have, until they drain.

`leases` are the ids of the open leases. `release` is one `discard` from that set, which is atomic, so it takes no lock.
Slots are taken only under the lock, so there are never too many.
"""

from typing import ClassVar, Final, TypeAlias

from awx_ratelimit.backends.memory.debt import Debt
from awx_ratelimit.backends.memory.leases import leases_of
from awx_ratelimit.core.bucket import drained, max_debt, product
from awx_ratelimit.core.decide import charged_rates, drained_at_ms, rates_set_back
from awx_ratelimit.core.joint_claim import Charge, Costs
from awx_ratelimit.core.open_claims import OpenClaims
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import REQUESTS, Rate
from awx_ratelimit.core.settlement import Correction, unfilled
from awx_ratelimit.core.state_layout import Layout, forget_at_ms, layout_of, unpack
from awx_ratelimit.runtime.mypyc import mypyc_attr

#: Drained debts are kept for this long, so that they still count if the clock steps back a little.
FORGET_AFTER_MS: Final = 60_000
_NOTHING: Final = layout_of(())


#: The layout, the levels and the kept debts of a state.
Saved: TypeAlias = tuple[Layout, list[int], dict[str, Debt]]
#: Nearly all subjects share these two, so never write to them.
_NOTHING_KEPT: Final[dict[str, Debt]] = {}
_UNBOUNDED: Final[dict[int, int]] = {}


@mypyc_attr(allow_interpreted_subclasses=True)
class SubjectState:
    """See the module."""

    __slots__ = ("bounds", "is_watched", "keep_until_ms", "kept", "layout", "leases", "levels", "looked_at", "open")
    open_claims: ClassVar[type[OpenClaims]] = OpenClaims

    def __init__(self, layout: Layout, levels: list[int], owner: object = None) -> None:
        self.layout = layout
        self.levels = levels
        self.leases = leases_of(owner)
        self.kept = _NOTHING_KEPT
        self.bounds = _UNBOUNDED
        self.open: OpenClaims | None = None
        #: False: there are no `bounds` and no `open` claims, so that a decision looks at neither.
        self.is_watched = False
        self.keep_until_ms = 0
        self.looked_at: list[int] | None = None

    def saved(self) -> Saved:
        """What `undo` needs to undo a charge."""
        return self.layout, self.levels, self.kept

    def undo(self, saved: Saved, claim_id: int = 0) -> None:
        """Undo what an exception has interrupted, and free the slot of a claim with this id."""
        self.layout, self.levels, self.kept = saved
        self.leases.discard(claim_id)
        self.close_claim(claim_id)

    def levels_under(self, plan: Plan) -> list[int]:
        """The levels in the units of the rates of `plan`. Changes nothing."""
        debts = self._debts()
        levels: list[int] = []
        for rate in plan.rates:
            known = debts.get(rate.name)
            levels += (known.under(rate), known.at_ms) if known else (0, 0)
        return levels

    def store_charged(self, plan: Plan, levels: list[int], costs: Costs | None = None) -> None:
        """Store `levels`, a decision's result under another layout than this state has.

        Debts of limits that the plan does not have move to `kept`. A limit that the cost does not name keeps its debt
        and the rate that it was charged by.
        """
        debts = self._debts()
        rates, levels = list(plan.rates), list(levels)
        for index, _, rate in () if plan.is_plain and costs is None else plan.numbered_rates:
            named = rate.measure == REQUESTS if costs is None else costs[index // 2] is not None
            if not named and rate.name in debts:
                levels[index], levels[index + 1], rates[index // 2] = debts[rate.name]
        known = [(rate, debts.pop(rate.name)) for rate in rates if rate.name in debts]
        if self.open is not None:
            self.open.forget([rate.name for rate, debt in known if not debt.is_counted_as(rate)])
        self.layout, self.levels, self.kept = layout_of(tuple(rates)), levels, debts

    def declare(self, claim_id: int, charge: Charge, exceeded: int, levels: list[int], now_ms: int) -> None:
        """Note a claim that was charged just now and may turn out to cost less."""
        charged = charged_rates(charge, exceeded)
        if charged:
            self.is_watched = True
            self.open = self.open_claims() if self.open is None else self.open
            self.open.add(claim_id, now_ms, {rate.name: levels[index] for index, rate, _ in charged})

    def note_lows(self, charge: Charge, exceeded: int, levels: list[int]) -> None:
        """Note the debts as they were before a charge, for the declared claims that are open."""
        assert self.open is not None
        for index, rate, tokens in charged_rates(charge, exceeded):
            self.open.note(rate.name, levels[index] - product(tokens, rate.unit))

    def note_refusal(self, plan: Plan, state: list[int], levels: list[int], now_ms: int) -> None:
        """Update the state after a decision that charged nothing.

        If the clock was set back, the debts drain from now on. The decision promised a wait under the rates of `plan`,
        so the sweep must keep the debts until those rates would have drained them.
        """
        names = rates_set_back(plan, state, levels, now_ms)
        if names:
            debts = self._debts()
            self._write(debts | {name: debts[name]._replace(at_ms=now_ms) for name in names})
        if self.layout is not plan.layout:
            self.keep_until_ms = max(self.keep_until_ms, _forget_at_ms(plan.rates, levels))

    def settle(self, claim_id: int, decided_at_ms: int, changes: list[Correction], now_ms: int) -> int:
        """Charge or give back what a claim cost more or less. Returns the tokens that are beyond the largest debt.

        A claim that is open in this state is given back exactly.
        """
        debts, cut_off = self._debts(), 0
        for rate, tokens in changes:
            known = debts.get(rate.name)
            if tokens > 0:
                # A refused claim leaves limits that were never charged. They say nothing about how a debt is counted.
                known = known if known and known.at_ms else None
                debts[rate.name], lost = self._charged_later(known or Debt(0, now_ms, rate), tokens, now_ms)
                cut_off += lost
            elif known is not None:
                debts[rate.name] = self._given_back(known, claim_id, decided_at_ms, rate, -tokens, now_ms)
        self._write(debts)
        self.close_claim(claim_id)
        return cut_off

    def close_claim(self, claim_id: int) -> None:
        """Forget an open declared claim, if there is one with this id."""
        if self.open is not None:
            self.open.close(claim_id)
            self.open = self.open or None

    def drop_old_claims(self, now_ms: int) -> None:
        """Forget the declared claims that have been open for too long."""
        if self.open is not None:
            self.open.drop_old(now_ms)
            self.open = self.open or None

    def _charged_later(self, known: Debt, tokens: int, now_ms: int) -> tuple[Debt, int]:
        rate = known.rate
        debt, at_ms = drained(rate, known.debt, known.at_ms, now_ms)
        if self.open is not None:
            self.open.note(rate.name, debt)
        wanted: int = debt + product(tokens, rate.unit)
        charged = max(debt, min(wanted, max_debt(rate)))
        return Debt(charged, at_ms, rate), -(-(wanted - charged) // rate.unit)

    def _given_back(self, known: Debt, claim_id: int, decided_at_ms: int, rate: Rate, tokens: int, now_ms: int) -> Debt:
        given = None
        if self.open is not None:
            debt_now = drained(known.rate, known.debt, known.at_ms, now_ms)[0]
            given = self.open.give_back(claim_id, rate.name, product(tokens, known.rate.unit), debt_now)
        if given is None:
            given = product(unfilled(rate, tokens, decided_at_ms, now_ms), known.rate.unit) // rate.unit
        left = known._replace(debt=max(0, known.debt - given))
        if self.open is not None:
            self.open.note(rate.name, drained(known.rate, left.debt, left.at_ms, now_ms)[0])
        return left

    def forget(self) -> None:
        """Clear all debts; leases stay."""
        self.layout, self.levels, self.kept, self.open = _NOTHING, [], _NOTHING_KEPT, None

    def bound(self, lease_id: int, until_ms: int) -> None:
        """Limit the hold of this lease: `end_overdue` ends it after `until_ms`."""
        self.is_watched = True
        self.bounds = {**self.bounds, lease_id: until_ms}

    def end_overdue(self, now_ms: int) -> None:
        """Free the slots that were held too long. A later `release` of their leases does nothing."""
        self.leases.difference_update([lease_id for lease_id, until_ms in self.bounds.items() if until_ms <= now_ms])
        self.bounds = {lease_id: until_ms for lease_id, until_ms in self.bounds.items() if lease_id in self.leases}
        self.is_watched = bool(self.bounds) or self.open is not None

    def drop_leases(self) -> None:
        """Drop all leases. A later `release` of one of them does not free a new lease."""
        self.leases, self.bounds = leases_of(self.leases.owner), _UNBOUNDED

    def idle(self, now_ms: int) -> bool:
        """True if it has no leases and no open claims, and was not charged since the last call."""
        idle = self.levels is self.looked_at
        self.looked_at = self.levels
        self.drop_old_claims(now_ms)
        return idle and not self.leases and self.open is None

    def packed(self, now_ms: int) -> bytes | None:
        """This idle state as bytes for `SubjectState.of`; None if all debts have drained."""
        if self.kept:
            owing = [debt for debt in self._debts().values() if self._is_owed(debt, now_ms)]
            layout = layout_of(tuple(debt.rate for debt in owing))
            levels = [number for debt in owing for number in debt[:2]]
        else:
            layout, levels = self.layout, self.levels
        until_ms = max(self.keep_until_ms, _forget_at_ms(layout.rates, levels))
        return layout.pack(until_ms, levels) if until_ms > now_ms else None

    def owes(self, now_ms: int) -> bool:
        """Whether there is a debt, a recent debt, or a promised wait that depends on one."""
        return self.keep_until_ms > now_ms or any(self._is_owed(debt, now_ms) for debt in self._debts().values())

    def is_in_debt(self, now_ms: int) -> bool:
        """Whether a debt is left. One that has drained is none, even where `owes` keeps it."""
        return any(drained(rate, debt, at_ms, now_ms)[0] for debt, at_ms, rate in self._debts().values())

    def drop_drained(self, now_ms: int) -> None:
        """Remove drained debts from `kept`."""
        self.kept = {name: debt for name, debt in self.kept.items() if self._is_owed(debt, now_ms)}

    @classmethod
    def new(cls, plan: Plan, owner: object = None) -> "SubjectState":
        """The state of a subject without debts."""
        return cls(plan.layout, [0, 0] * len(plan.rates), owner)

    @classmethod
    def of(cls, packed: bytes, owner: object = None) -> "SubjectState":
        """Unpack the result of `packed`."""
        state = cls(*unpack(packed), owner)
        state.keep_until_ms = forget_at_ms(packed)
        return state

    def _is_owed(self, debt: Debt, now_ms: int) -> bool:
        return max(self.keep_until_ms, _forget_at_ms((debt.rate,), debt[:2])) > now_ms

    def _debts(self) -> dict[str, Debt]:
        debts = dict(self.kept)
        numbers = iter(self.levels)
        for rate, debt, at_ms in zip(self.layout.rates, numbers, numbers, strict=True):
            debts[rate.name] = Debt(debt, at_ms, rate)
        return debts

    def _write(self, debts: dict[str, Debt]) -> None:
        in_layout = [debts.pop(rate.name) for rate in self.layout.rates]
        if any(debt.rate is not rate for debt, rate in zip(in_layout, self.layout.rates, strict=True)):
            self.layout = layout_of(tuple(debt.rate for debt in in_layout))
        self.levels = [number for debt in in_layout for number in debt[:2]]
        self.kept = debts


def _forget_at_ms(rates: tuple[Rate, ...], levels: list[int] | tuple[int, ...]) -> int:
    return drained_at_ms(rates, levels) + FORGET_AFTER_MS
