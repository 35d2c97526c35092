"""`DecidingMemory`: decides claims of one budget, and releases them. See docs/hot-path.md.

Arguments that this library checks itself are `Any`: compiled code raises a TypeError of its own for any other type, and
the errors must not depend on the form of the library.
"""

from typing import Any, Final

from awx_ratelimit.backends.memory.joint_memory import JointMemory
from awx_ratelimit.backends.memory.leases import Leases, discard_all
from awx_ratelimit.backends.memory.sharded_memory import MASK
from awx_ratelimit.backends.memory.subject_state import Saved, SubjectState
from awx_ratelimit.core.budget import ScopedSubject
from awx_ratelimit.core.claim import check_plan, checked_claim, checked_subject
from awx_ratelimit.core.decide import charge_pair, decide, preview
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.joint_claim import Charge
from awx_ratelimit.core.plan import Terms
from awx_ratelimit.core.validation import exact_ms
from awx_ratelimit.runtime.forks import SAME_PROCESS, renew_if_forked
from awx_ratelimit.runtime.mypyc import i64, mypyc_attr

_MASK: Final = MASK
#: See "Creating tuples" in docs/hot-path.md.
_new: Final = tuple.__new__
#: See "Aliases and long functions" in docs/hot-path.md.
_DECISION: Final = Decision
_LEASES: Final = Leases
_SAME_PROCESS: Final = SAME_PROCESS
#: See "Identity checks" in docs/hot-path.md.
_ONE: Final = 1


@mypyc_attr(allow_interpreted_subclasses=True)
class DecidingMemory(JointMemory):
    """The part of MemoryBackend that decides claims of one budget."""

    def acquire(self, subject: Any, plan: Any, cost: Any) -> Decision:  # noqa: C901, PLR0912, PLR0915  # docs/hot-path.md
        # The other mistakes raise AttributeError or TypeError below, before anything is changed.
        if type(subject) is not str or cost is not _ONE or not _SAME_PROCESS:
            subject, plan, cost = checked_claim(subject, plan, cost)
            renew_if_forked()
        # Compiled, `&` of an int of 64 bits is a call, and that of an i64 is not.
        hashed: i64 = hash(subject)
        shard = self._shards[hashed & _MASK]
        lock = shard.lock
        holder: Leases | None = None
        saved: Saved | None = None
        levels: list[int] | None = None
        decision: Decision | None = None
        lease_id: Any = 0
        slot_wait_ms = 0
        try:
            for taken in shard.attempts:
                if not taken:
                    shard.wait()
                    continue
                try:
                    now = self._now_ms()
                    if type(now) is not int:
                        now = exact_ms(now)
                    now_ms: int = now
                    known = shard.states.get(subject)
                    state = self._load_state(shard, subject, plan) if known is None else known
                    watched = state.is_watched
                    if watched:
                        state.end_overdue(now_ms)
                    terms: Terms = plan.terms
                    layout, pair, slots, slot_bit, max_hold_ms = terms
                    same = state.layout is layout
                    rate_levels = state.levels if same else state.levels_under(plan)
                    leases = state.leases
                    lease_ids: set[int] = leases
                    held = len(lease_ids)
                    if pair is not None and cost is _ONE and held < slots:
                        levels = charge_pair(pair, rate_levels, now)
                    exceeded = 0
                    if levels is None:
                        exceeded, levels = decide(plan, rate_levels, held, cost, now)
                        if exceeded and exceeded & slot_bit:
                            slot_wait_ms = self._hold_times.slot_wait_ms(plan)
                    if exceeded and exceeded & plan.enforced:
                        state.note_refusal(plan, rate_levels, levels, now_ms)
                    else:
                        if same:
                            holder = leases
                            state.levels = levels
                        else:
                            saved = state.saved()
                            holder = leases
                            state.store_charged(plan, levels)
                        if watched and state.open is not None:
                            state.note_lows(Charge(plan, cost, None), exceeded, levels)
                        if slot_bit and held < slots:
                            held += 1
                            for lease_id in self._lease_ids:  # noqa: B007  # see docs/hot-path.md
                                break
                            lease_ids.add(lease_id)
                            if max_hold_ms:
                                state.bound(lease_id, now_ms + max_hold_ms)
                    decision = _new(
                        _DECISION,
                        (subject, plan, cost, now, exceeded, levels, held, lease_id, holder, slot_wait_ms),
                    )
                except BaseException as error:
                    if holder is not None:
                        state.undo(saved or (layout, rate_levels, state.kept), lease_id)
                    if isinstance(error, (AttributeError, TypeError)):
                        check_plan(plan)
                    raise
                finally:
                    lock.release()
                break
            if now_ms >= self._sweep_at_ms:
                self._sweep(now_ms)
        except BaseException:
            self._withdraw(decision)
            raise
        return decision  # type: ignore[return-value]

    def peek(self, subject: Any, plan: Any, cost: Any) -> Decision:
        subject, plan, cost = checked_claim(subject, plan, cost)
        renew_if_forked()
        shard = self._shards[hash(subject) & _MASK]
        with shard.lock:
            now_ms = exact_ms(self._now_ms())
            state = shard.find(subject) or SubjectState.new(plan)
            state.end_overdue(now_ms)
            rate_levels = state.levels_under(plan)
            held = len(state.leases)
            exceeded, levels = preview(plan, rate_levels, held, cost, now_ms)
            state.note_refusal(plan, rate_levels, levels, now_ms)
        slot_wait_ms = self._hold_times.slot_wait_ms(plan) if exceeded & plan.slot_bit else 0
        return Decision(subject, plan, cost, now_ms, exceeded, levels, held, 0, None, slot_wait_ms)

    def release(self, decision: Any) -> None:
        lease_id: Any = decision[7]
        if lease_id:
            holder = decision[8]
            if type(holder) is _LEASES:
                if holder.owner is self._owner:
                    leases: set[int] = holder
                    measured = not lease_id & self._unmeasured and lease_id in leases
                    leases.discard(lease_id)
                    if measured:
                        self._unmeasured |= self._hold_times.measure(decision, lease_id, self._now_ms)
            elif type(holder) is tuple and holder[0].owner is self._owner:
                measured = not lease_id & self._unmeasured and lease_id in holder[0]
                try:
                    for each in holder:
                        each.discard(lease_id)
                except BaseException:
                    discard_all(holder, lease_id)
                    raise
                if measured:
                    self._unmeasured |= self._hold_times.measure(decision, lease_id, self._now_ms)

    def reset(self, subject: Any, scope: Any = None) -> bool:
        """See Backend. Without a `scope` it also clears the buckets without one."""
        subject = checked_subject(subject)
        renew_if_forked()
        now_ms, found = exact_ms(self._now_ms()), False
        for record in self._records_of(subject) if scope is None else [ScopedSubject(subject, scope)]:
            shard = self._shards[hash(record) & _MASK]
            with shard.lock:
                found |= shard.forget(record, now_ms)
        return found
