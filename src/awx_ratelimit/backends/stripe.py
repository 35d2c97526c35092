"""A share of the memory backend's subjects: their debts, their leases and the forgetting of both. Used under its lock.

A subject in use is an *entry*: a list of its state, then the number of its open leases, then the layout of the state.
An entry is replaced at each charge and not changed otherwise, but for the number of its leases, so that a Decision
can keep it. A subject that was not seen for a round of the sweep is packed into `bytes`: slower, but small.
Limits that the subject's last claim did not name lie in `kept` until they have drained.
"""

from collections import deque
from threading import Lock
from typing import Any, NamedTuple, TypeAlias

from awx_ratelimit.core.bucket import converted
from awx_ratelimit.core.charge import drained_at_ms
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.layout import layout_of, unpacked
from awx_ratelimit.core.plans import Plan
from awx_ratelimit.core.rates import Rate

Entry: TypeAlias = list[Any]

#: How long a debt that has drained is still known, so that a clock that steps back a little finds it.
FORGET_AFTER_MS = 60_000
#: How many subjects one step of the sweep looks at: some 50 us of work.
SWEEP_SUBJECTS = 64
#: So few subjects are not worth a look.
FEW_SUBJECTS = 16
_NOTHING = layout_of(())
_EMPTY: Entry = [0, _NOTHING]


class Kept(NamedTuple):
    """One limit by itself: what it owes, since when, and the rate it was last charged by."""

    debt: int
    at_ms: int
    rate: Rate


class Stripe:
    """The subjects of one stripe, and the decisions whose leases were given back since the last look."""

    __slots__ = ("_peak", "_to_sweep", "bounded", "entries", "kept", "lock", "released")

    def __init__(self) -> None:
        self.lock = Lock()
        self.entries: dict[str, Entry | bytes] = {}
        self.kept: dict[str, dict[str, Kept]] = {}
        self.released: deque[Decision] = deque()
        self.bounded: dict[str, list[tuple[int, list[Any]]]] = {}
        self._to_sweep: list[str] = []
        self._peak = 0

    def settle(self) -> None:
        """Free the slots of what was released; a lease that was released twice is freed once."""
        while self.released:
            decision = self.released.popleft()
            self._free(decision.subject, decision.holder)

    def bound(self, subject: str, holder: list[Any], until_ms: int) -> None:
        """Hold this lease until then at the longest."""
        self.bounded.setdefault(subject, []).append((until_ms, holder))

    def end_overdue(self, subject: str, now_ms: int) -> None:
        """Free the slots that were held too long; a release that comes later finds nothing to free."""
        bounded = self.bounded.pop(subject, None)
        if bounded is None:
            return
        for until_ms, holder in bounded:
            if until_ms <= now_ms:
                self._free(subject, holder)
        still = [bound for bound in bounded if bound[1][0] is not None]
        if still:
            self.bounded[subject] = still

    def _free(self, subject: str, holder: list[Any]) -> None:
        if holder[0] is not None:
            holder[0] = None
            entry = self.entries[subject]
            assert isinstance(entry, list), "an entry with leases is never packed"
            entry[-2] -= 1

    @property
    def known(self) -> int:
        """How many subjects owe or hold something, or did so of late."""
        return len(self.entries.keys() | self.kept.keys())

    @property
    def held(self) -> int:
        """How many leases are open."""
        return sum(entry[-2] for entry in self.entries.values() if isinstance(entry, list))

    def after_fork(self) -> None:
        """In a child: a lock that nobody holds, and none of the parent's leases."""
        self.lock = Lock()
        self.released = deque()
        self.bounded = {}
        for entry in self.entries.values():
            if isinstance(entry, list):
                entry[-2] = 0

    def entry(self, subject: str, plan: Plan) -> Entry:
        """The subject's entry in the layout of `plan`; one that is not in `entries` where it had to be made."""
        entry = self.entries.get(subject)
        if entry is None and subject not in self.kept:
            return [*(0, 0) * len(plan.rates), 0, plan.layout]
        by_name, held = self._limits(subject)
        state: Entry = []
        for rate in plan.rates:
            kept = by_name.get(rate.name)
            state += (converted(rate, kept.debt, kept.rate.unit), kept.at_ms) if kept else (0, 0)
        return [*state, held, plan.layout]

    def store(self, subject: str, entry: Entry) -> None:
        """Put `entry` in place of the subject's own of another layout; what other limits owe is kept beside it."""
        by_name, _ = self._limits(subject)
        names = {rate.name for rate in entry[-1].rates}
        self.entries[subject] = entry
        self._keep(subject, {name: kept for name, kept in by_name.items() if name not in names})

    def rebase(self, subject: str, names: list[str], now_ms: int) -> None:
        """Count the debts of `names` from now on, after a clock that was set back."""
        by_name, _ = self._limits(subject)
        self._change(subject, {name: by_name[name]._replace(at_ms=now_ms) for name in names})

    def refund(self, subject: str, given_back: dict[str, tuple[int, int]]) -> None:
        """Take ``(amount, unit)`` off the debts by name, in the units in which they are counted now."""
        by_name, _ = self._limits(subject)
        changed = {}
        for name, (amount, unit) in given_back.items():
            if name in by_name:
                kept = by_name[name]
                changed[name] = kept._replace(debt=max(0, kept.debt - amount * kept.rate.unit // unit))
        if changed:
            self._change(subject, changed)

    def forget(self, subject: str) -> None:
        """Owe nothing any more; leases live on."""
        _, held = self._limits(subject)
        self.kept.pop(subject, None)
        if held:
            self.entries[subject] = [held, _NOTHING]
        else:
            self.entries.pop(subject, None)

    def sweep(self, now_ms: int) -> None:
        """Look at a few subjects: drop those that owe nothing and hold nothing, pack those that are idle."""
        if not self._to_sweep:
            self._begin_round()
        for subject in self._to_sweep[-SWEEP_SUBJECTS:]:
            self._drop_or_pack(subject, now_ms)
        del self._to_sweep[-SWEEP_SUBJECTS:]

    def _begin_round(self) -> None:
        self._peak = max(self._peak, len(self.entries))
        if len(self.entries) * 4 < self._peak:
            # A dict never shrinks by itself; a copy has the size of what is left.
            self.entries = dict(self.entries)
            self._peak = len(self.entries)
        if len(self.entries) > FEW_SUBJECTS:
            self._to_sweep = [*self.entries, *self.kept]

    def _drop_or_pack(self, subject: str, now_ms: int) -> None:
        self.end_overdue(subject, now_ms)
        by_name, held = self._limits(subject)
        owing = {
            name: kept
            for name, kept in by_name.items()
            if drained_at_ms((kept.rate,), kept[:2]) + FORGET_AFTER_MS > now_ms
        }
        if not owing:
            self.forget(subject)
        elif not held:
            layout = layout_of(tuple(kept.rate for kept in owing.values()))
            self.entries[subject] = layout.packed([number for kept in owing.values() for number in kept[:2]])
            self.kept.pop(subject, None)

    def _change(self, subject: str, changed: dict[str, Kept]) -> None:
        by_name, held = self._limits(subject)
        by_name |= changed
        entry = self.entries.get(subject, _EMPTY)
        layout = unpacked(entry)[0] if isinstance(entry, bytes) else entry[-1]
        state = [number for rate in layout.rates for number in by_name.pop(rate.name)[:2]]
        self.entries[subject] = [*state, held, layout]
        self._keep(subject, by_name)

    def _limits(self, subject: str) -> tuple[dict[str, Kept], int]:
        """Every limit of the subject by name, and its open leases."""
        by_name = dict(self.kept.get(subject, ()))
        entry = self.entries.get(subject)
        if entry is None:
            return by_name, 0
        if isinstance(entry, bytes):
            layout, state = unpacked(entry)
            held = 0
        else:
            *state, held, layout = entry  # type: ignore[assignment]
        by_name |= {
            rate.name: Kept(debt, at_ms, rate)
            for rate, debt, at_ms in zip(layout.rates, state[::2], state[1::2], strict=True)
        }
        return by_name, held

    def _keep(self, subject: str, limits: dict[str, Kept]) -> None:
        if limits:
            self.kept[subject] = limits
        else:
            self.kept.pop(subject, None)
