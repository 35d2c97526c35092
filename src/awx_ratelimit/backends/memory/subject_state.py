"""What one subject owes and holds in the memory backend. Used under the lock of its stripe, but for what is said below.

`levels` is the state of the rates of `layout`, as `core.charge` counts it. It is replaced and never changed, so that a
Decision can keep it. Limits that the subject's last claim did not name lie in `kept` until they have drained.

`leases` are the numbers of the open leases. Giving a slot back is one `discard` from that set, which no other thread
can come between, so that it takes no lock; slots are taken under the lock alone, and so never too many.
"""

from typing import NamedTuple

from awx_ratelimit.core.bucket import convert_debt
from awx_ratelimit.core.decide import drained_at_ms, rates_set_back
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import Rate
from awx_ratelimit.core.state_layout import Layout, forget_at_ms, layout_of, unpack

#: How long a debt that has drained is still known, so that a clock that steps back a little finds it.
FORGET_AFTER_MS = 60_000
_NOTHING = layout_of(())


class Debt(NamedTuple):
    """One limit by itself: what it owes, since when, and the rate it was last charged by."""

    debt: int
    at_ms: int
    rate: Rate


#: Shared by nearly all, and so never written to.
_NOTHING_KEPT: dict[str, Debt] = {}
_UNBOUNDED: dict[int, int] = {}


class SubjectState:
    """See the module. A new one owes nothing in `layout`."""

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
        """The levels as the rates of `plan` count them; nothing is written."""
        debts = self._debts()
        levels: list[int] = []
        for rate in plan.rates:
            known = debts.get(rate.name)
            levels += (convert_debt(rate, known.debt, known.rate.unit), known.at_ms) if known else (0, 0)
        return levels

    def change_layout(self, layout: Layout) -> None:
        """Count by `layout` from now on, whose levels are written next; what other limits owe is kept beside them."""
        debts = self._debts()
        for rate in layout.rates:
            debts.pop(rate.name, None)
        self.layout, self.kept = layout, debts

    def asked(self, plan: Plan, state: list[int], levels: list[int], now_ms: int) -> None:
        """A claim was answered that charged nothing.

        After a clock that was set back the debts count from now on. And a promise was made by the rates of `plan`: what
        it stands on is kept until they would have drained it, or the sweep would break it.
        """
        names = rates_set_back(plan, state, levels, now_ms)
        if names:
            debts = self._debts()
            self._write(debts | {name: debts[name]._replace(at_ms=now_ms) for name in names})
        if self.layout is not plan.layout:
            self.keep_until_ms = max(self.keep_until_ms, _forget_at_ms(plan.rates, levels))

    def refund(self, given_back: dict[str, tuple[int, int]]) -> None:
        """Take ``(amount, unit)`` off the debts by name, in the units in which they are counted now."""
        debts = self._debts()
        for name, (amount, unit) in given_back.items():
            if name in debts:
                debt, _, rate = debts[name]
                debts[name] = debts[name]._replace(debt=max(0, debt - amount * rate.unit // unit))
        self._write(debts)

    def forget(self) -> None:
        """Owe nothing any more; leases live on."""
        self.layout, self.levels, self.kept = _NOTHING, [], _NOTHING_KEPT

    def bound(self, lease_id: int, until_ms: int) -> None:
        """Hold this lease until then at the longest."""
        self.bounds = {**self.bounds, lease_id: until_ms}

    def end_overdue(self, now_ms: int) -> None:
        """Free the slots that were held too long; a release that comes later finds nothing to free."""
        self.leases.difference_update([lease_id for lease_id, until_ms in self.bounds.items() if until_ms <= now_ms])
        self.bounds = {lease_id: until_ms for lease_id, until_ms in self.bounds.items() if lease_id in self.leases}

    def drop_leases(self) -> None:
        """Hold nothing any more; a lease of before frees nothing of what is granted after."""
        self.leases, self.bounds = set(), _UNBOUNDED

    def idle(self) -> bool:
        """Whether nothing is held and nothing was charged since this was last asked."""
        idle = self.levels is self.looked_at
        self.looked_at = self.levels
        return idle and not self.leases

    def packed(self, now_ms: int) -> bytes | None:
        """An idle one in few bytes, None where it owes nothing any more. See `SubjectState.of`."""
        if self.kept:
            owing = [debt for debt in self._debts().values() if self._is_owed(debt, now_ms)]
            layout = layout_of(tuple(debt.rate for debt in owing))
            levels = [number for debt in owing for number in debt[:2]]
        else:
            layout, levels = self.layout, self.levels
        until_ms = max(self.keep_until_ms, _forget_at_ms(layout.rates, levels))
        return layout.pack(until_ms, levels) if until_ms > now_ms else None

    def owes(self, now_ms: int) -> bool:
        """Whether it owes anything, did so of late, or must be known for the sake of a promise."""
        return self.keep_until_ms > now_ms or any(self._is_owed(debt, now_ms) for debt in self._debts().values())

    def drop_drained(self, now_ms: int) -> None:
        """Keep beside the levels only what is owed still."""
        self.kept = {name: debt for name, debt in self.kept.items() if self._is_owed(debt, now_ms)}

    def first_refund(self, decision: Decision) -> bool:
        """Whether it is the first of this decision, which is then marked: its levels get a number that is no debt."""
        levels = decision.levels
        if self.levels is levels:
            self.levels = [*levels]
        first = len(levels) % 2 == 0
        if first and isinstance(levels, list):
            levels.append(0)
        return first

    @classmethod
    def new(cls, plan: Plan) -> "SubjectState":
        """Of a subject that owes nothing."""
        return cls(plan.layout, [0, 0] * len(plan.rates))

    @classmethod
    def of(cls, packed: bytes) -> "SubjectState":
        """The ledger that was `packed`."""
        ledger = cls(*unpack(packed))
        ledger.keep_until_ms = forget_at_ms(packed)
        return ledger

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
