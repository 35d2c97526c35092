"""The debts and leases of one subject in the memory backend. Protected by the lock of its shard, except as noted.

`levels` is the state of the rates in `layout`, as `core.decide` counts it. The list is replaced and never changed, so
a Decision can keep it. `kept` has the debts of limits that the subject's last plan does not have, until they drain.

`leases` are the ids of the open leases. `release` is one `discard` from that set, which is atomic, so it takes no lock.
Slots are taken only under the lock, so there are never too many.
"""

from typing import NamedTuple

from awx_ratelimit.core.bucket import convert_debt
from awx_ratelimit.core.decide import drained_at_ms, rates_set_back
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import Rate
from awx_ratelimit.core.state_layout import Layout, forget_at_ms, layout_of, unpack

#: Drained debts are kept for this long, so that they still count if the clock steps back a little.
FORGET_AFTER_MS = 60_000
_NOTHING = layout_of(())


class Debt(NamedTuple):
    """One limit: its debt, the time of the debt, and the rate that last charged it."""

    debt: int
    at_ms: int
    rate: Rate


#: Nearly all subjects share these two, so never write to them.
_NOTHING_KEPT: dict[str, Debt] = {}
_UNBOUNDED: dict[int, int] = {}


class SubjectState:
    """See the module."""

    __slots__ = ("bounds", "keep_until_ms", "kept", "layout", "leases", "levels", "looked_at")

    def __init__(self, layout: Layout, levels: list[int]) -> None:
        self.layout = layout
        self.levels = levels
        self.leases: set[int] = set()
        self.kept = _NOTHING_KEPT
        self.bounds = _UNBOUNDED
        self.keep_until_ms = 0
        self.looked_at: list[int] | None = None

    def levels_under(self, plan: Plan) -> list[int]:
        """The levels in the units of the rates of `plan`. Changes nothing."""
        debts = self._debts()
        levels: list[int] = []
        for rate in plan.rates:
            known = debts.get(rate.name)
            levels += (convert_debt(rate, known.debt, known.rate.unit), known.at_ms) if known else (0, 0)
        return levels

    def change_layout(self, layout: Layout) -> None:
        """Switch to `layout`; the caller sets `levels` next. Debts of other limits move to `kept`."""
        debts = self._debts()
        for rate in layout.rates:
            debts.pop(rate.name, None)
        self.layout, self.kept = layout, debts

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

    def refund(self, given_back: dict[str, tuple[int, int]]) -> None:
        """Subtract each ``(amount, unit)`` from the debt of that limit, converted to its current unit."""
        debts = self._debts()
        for name, (amount, unit) in given_back.items():
            if name in debts:
                debt, _, rate = debts[name]
                debts[name] = debts[name]._replace(debt=max(0, debt - amount * rate.unit // unit))
        self._write(debts)

    def forget(self) -> None:
        """Clear all debts; leases stay."""
        self.layout, self.levels, self.kept = _NOTHING, [], _NOTHING_KEPT

    def bound(self, lease_id: int, until_ms: int) -> None:
        """Limit the hold of this lease: `end_overdue` ends it after `until_ms`."""
        self.bounds = {**self.bounds, lease_id: until_ms}

    def end_overdue(self, now_ms: int) -> None:
        """Free the slots that were held too long. A later `release` of their leases does nothing."""
        self.leases.difference_update([lease_id for lease_id, until_ms in self.bounds.items() if until_ms <= now_ms])
        self.bounds = {lease_id: until_ms for lease_id, until_ms in self.bounds.items() if lease_id in self.leases}

    def drop_leases(self) -> None:
        """Drop all leases. A later `release` of one of them does not free a new lease."""
        self.leases, self.bounds = set(), _UNBOUNDED

    def idle(self) -> bool:
        """Whether there is no lease, and no charge since the last call of this method."""
        idle = self.levels is self.looked_at
        self.looked_at = self.levels
        return idle and not self.leases

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

    def drop_drained(self, now_ms: int) -> None:
        """Remove drained debts from `kept`."""
        self.kept = {name: debt for name, debt in self.kept.items() if self._is_owed(debt, now_ms)}

    def first_refund(self, decision: Decision) -> bool:
        """Whether this is the first refund of `decision`. Marks the decision by an extra number in its levels."""
        levels = decision.levels
        if self.levels is levels:
            self.levels = [*levels]
        first = len(levels) % 2 == 0
        if first and isinstance(levels, list):
            levels.append(0)
        return first

    @classmethod
    def new(cls, plan: Plan) -> "SubjectState":
        """The state of a subject without debts."""
        return cls(plan.layout, [0, 0] * len(plan.rates))

    @classmethod
    def of(cls, packed: bytes) -> "SubjectState":
        """Unpack the result of `packed`."""
        state = cls(*unpack(packed))
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
        self.levels = [number for rate in self.layout.rates for number in debts.pop(rate.name)[:2]]
        self.kept = debts


def _forget_at_ms(rates: tuple[Rate, ...], levels: list[int] | tuple[int, ...]) -> int:
    return drained_at_ms(rates, levels) + FORGET_AFTER_MS
