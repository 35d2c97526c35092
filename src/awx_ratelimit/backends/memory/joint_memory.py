"""`JointMemory`: decides claims of several budgets. See "Several budgets" in docs/hot-path.md."""

from typing import Any, Final

from awx_ratelimit.backends.memory.joint_decisions import (
    charge_plainly,
    uncharge_plainly,
)
from awx_ratelimit.backends.memory.leases import Leases
from awx_ratelimit.backends.memory.several_budgets import SeveralBudgets
from awx_ratelimit.backends.memory.shard import NO_SHARD
from awx_ratelimit.backends.memory.sharded_memory import MASK
from awx_ratelimit.backends.validation import check_joint_claim
from awx_ratelimit.core.decide import charge_pair, decide
from awx_ratelimit.core.decision import Decision, JointDecision
from awx_ratelimit.core.joint_claim import JointClaim
from awx_ratelimit.core.validation import exact_ms
from awx_ratelimit.runtime.forks import SAME_PROCESS, renew_if_forked
from awx_ratelimit.runtime.mypyc import mypyc_attr

_MASK: Final = MASK
#: See "Creating tuples" in docs/hot-path.md.
_new: Final = tuple.__new__
#: See "Aliases and long functions" in docs/hot-path.md.
_JOINT_DECISION: Final = JointDecision
_SAME_PROCESS: Final = SAME_PROCESS
#: The key's, the account's and the service's. Claims with another number of records take a general path.
_USUAL_BUDGETS: Final = 3


@mypyc_attr(allow_interpreted_subclasses=True)
class JointMemory(SeveralBudgets):
    """The part of MemoryBackend that decides claims of several budgets."""

    def acquire_joint(self, claim: Any) -> Decision:  # noqa: C901, PLR0912, PLR0915  # see docs/hot-path.md
        if claim.__class__ is not JointClaim or not _SAME_PROCESS:
            check_joint_claim(claim)
            renew_if_forked()
        checked: JointClaim = claim
        records, shape, declared = checked
        charges = shape.plain_charges
        if len(records) != _USUAL_BUDGETS or charges is None or declared:
            return self._acquire_two(claim) if len(records) == 2 else self._acquire_several(claim)
        record, record_2, record_3 = records
        (
            (plan, layout, cost, pair, slots, bit),
            (plan_2, layout_2, _, pair_2, slots_2, bit_2),
            (plan_3, layout_3, _, pair_3, slots_3, bit_3),
        ) = charges
        shards = self._shards
        first, second, third = hash(record) & _MASK, hash(record_2) & _MASK, hash(record_3) & _MASK
        shard, shard_2, shard_3 = shards[first], shards[second], shards[third]
        # Everybody locks shards in this order, each once.
        if first > second:
            first, second = second, first
        if second > third:
            second, third = third, second
            if first > second:
                first, second = second, first
        lowest, middle, highest = shards[first], shards[second], shards[third]
        if middle is lowest:
            middle = NO_SHARD
        if highest is middle or third == second:
            highest = NO_SHARD
        decision: Any = None
        lease_id: Any = 0
        try:
            for taken in lowest.attempts:
                if not taken:
                    lowest.wait()
                    continue
                try:
                    for taken_too in middle.attempts:
                        if not taken_too:
                            middle.wait()
                            continue
                        try:
                            for all_taken in highest.attempts:
                                if not all_taken:
                                    highest.wait()
                                    continue
                                try:
                                    now = self._now_ms()
                                    if type(now) is not int:
                                        now = exact_ms(now)
                                    now_ms: int = now
                                    state, state_2 = shard.states.get(record), shard_2.states.get(record_2)
                                    state_3 = shard_3.states.get(record_3)
                                    if (
                                        state is not None
                                        and state_2 is not None
                                        and state_3 is not None
                                        and state.layout is layout
                                        and state_2.layout is layout_2
                                        and state_3.layout is layout_3
                                        and not (state.is_watched or state_2.is_watched or state_3.is_watched)
                                    ):
                                        before, before_2, before_3 = state.levels, state_2.levels, state_3.levels
                                        leases, leases_2, leases_3 = state.leases, state_2.leases, state_3.leases
                                        held, held_2, held_3 = len(leases), len(leases_2), len(leases_3)
                                        exceeded = 0
                                        levels: Any = None
                                        levels_2: Any = None
                                        levels_3: Any = None
                                        if pair is not None and held < slots:
                                            levels = charge_pair(pair, before, now)
                                        if levels is None:
                                            exceeded, levels = decide(plan, before, held, cost, now)
                                        if pair_2 is not None and held_2 < slots_2:
                                            levels_2 = charge_pair(pair_2, before_2, now)
                                        if levels_2 is None and not exceeded:
                                            exceeded, levels_2 = decide(plan_2, before_2, held_2, cost, now)
                                        if pair_3 is not None and held_3 < slots_3:
                                            levels_3 = charge_pair(pair_3, before_3, now)
                                        if levels_3 is None and not exceeded:
                                            exceeded, levels_3 = decide(plan_3, before_3, held_3, cost, now)
                                        if not exceeded:
                                            for lease_id in self._lease_ids:  # noqa: B007  # see docs/hot-path.md
                                                break
                                            leased: tuple[Leases, ...]
                                            state.levels, state_2.levels, state_3.levels = levels, levels_2, levels_3
                                            if bit and bit_2 and bit_3:
                                                leased = leases, leases_2, leases_3
                                                held, held_2, held_3 = held + 1, held_2 + 1, held_3 + 1
                                                leases.add(lease_id)
                                                leases_2.add(lease_id)
                                                leases_3.add(lease_id)
                                            else:
                                                leased = ()
                                                if bit:
                                                    leased, held = (leases,), held + 1
                                                    leases.add(lease_id)
                                                if bit_2:
                                                    leased, held_2 = (*leased, leases_2), held_2 + 1
                                                    leases_2.add(lease_id)
                                                if bit_3:
                                                    leased, held_3 = (*leased, leases_3), held_3 + 1
                                                    leases_3.add(lease_id)
                                            decision = _new(_JOINT_DECISION, (
                                                record if type(record) is str else record[0], plan, shape.cost, now,
                                                0, levels, held, lease_id if leased else 0,
                                                leased or (self._no_leases,), 0, claim, (
                                                    (0, levels, held, 0),
                                                    (0, levels_2, held_2, 0),
                                                    (0, levels_3, held_3, 0),
                                                ),
                                            ))  # fmt: skip
                                    if decision is None:
                                        decision = self._decide_jointly(claim, (shard, shard_2, shard_3), now_ms)
                                except BaseException:
                                    if lease_id and state and state_2 and state_3:
                                        undo = (state, before), (state_2, before_2), (state_3, before_3)
                                        uncharge_plainly(undo, (leases, leases_2, leases_3), lease_id)
                                    raise
                                finally:
                                    highest.lock.release()
                                break
                        finally:
                            middle.lock.release()
                        break
                finally:
                    lowest.lock.release()
                break
            if now_ms >= self._sweep_at_ms:
                self._sweep(now_ms)
        except BaseException:
            self._withdraw(decision)
            raise
        return decision  # type: ignore[no-any-return]

    def _acquire_two(self, claim: JointClaim) -> Decision:
        """`acquire_joint` for two records. See "Several budgets" in docs/hot-path.md."""
        record, record_2 = claim[0]
        first, second = hash(record) & _MASK, hash(record_2) & _MASK
        shard, shard_2 = self._shards[first], self._shards[second]
        lower, higher = (shard, shard_2) if first < second else (shard_2, shard)
        if first == second:
            higher = NO_SHARD
        decision: JointDecision | None = None
        try:
            for taken in lower.attempts:
                if not taken:
                    lower.wait()
                    continue
                try:
                    for both_taken in higher.attempts:
                        if not both_taken:
                            higher.wait()
                            continue
                        try:
                            now_ms = exact_ms(self._now_ms())
                            states = shard.states.get(record), shard_2.states.get(record_2)
                            decision = charge_plainly(claim, states, self._no_leases, next(self._lease_ids), now_ms)
                            if decision is None:
                                decision = self._decide_jointly(claim, (shard, shard_2), now_ms)
                        finally:
                            higher.lock.release()
                        break
                finally:
                    lower.lock.release()
                break
            if now_ms >= self._sweep_at_ms:
                self._sweep(now_ms)
        except BaseException:
            self._withdraw(decision)
            raise
        return decision  # type: ignore[return-value]
