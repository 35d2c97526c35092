"""`SettlingMemory`: corrects what a claim was charged, and takes back a claim whose caller never gets the decision."""

from typing import Any

from awx_ratelimit.backends.memory.joint_decisions import is_settled, mark_settled
from awx_ratelimit.backends.memory.leases import Leases, declared_id, discard_all
from awx_ratelimit.backends.memory.sharded_memory import MASK, ShardedMemory
from awx_ratelimit.core.budget import Record
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.joint_claim import Charge
from awx_ratelimit.core.settlement import NOTHING, ActualCost, charges, corrections
from awx_ratelimit.core.validation import exact_ms
from awx_ratelimit.runtime.forks import renew_if_forked
from awx_ratelimit.runtime.mypyc import mypyc_attr


@mypyc_attr(allow_interpreted_subclasses=True)
class SettlingMemory(ShardedMemory):
    """The part of MemoryBackend that settles."""

    def refund(self, decision: Any) -> bool:
        return self.settle(decision, NOTHING)

    def settle(self, decision: Any, actual: Any) -> bool:
        renew_if_forked()
        if not self._is_own(decision):
            return False
        charged = charges(decision)
        shards = self._shards_of([record for record, _, _ in charged])
        is_first: bool = self._locked(shards, 0, self._settle, decision, actual, charged)
        return is_first

    def _is_own(self, decision: Any) -> bool:
        """Whether this backend has allowed `decision`."""
        holder = decision.holder
        leases = holder[0] if type(holder) is tuple else holder
        return type(leases) is Leases and leases.owner is self._owner

    def _settle(self, decision: Decision, actual: ActualCost, charged: list[tuple[Record, Charge, int]]) -> bool:
        if is_settled(decision):
            return False
        now_ms = exact_ms(self._now_ms())
        settling = []
        for record, charge, exceeded in charged:
            shard = self._shards[hash(record) & MASK]
            changes = corrections(charge, exceeded, actual)
            state = shard.find(record) or (shard.load(record, charge.plan) if changes else None)
            if state is not None:
                settling.append((state, changes, state.saved()))
        claim_id, cut_off_tokens = declared_id(decision.holder), 0
        try:
            for state, changes, _ in settling:
                cut_off_tokens += state.settle(claim_id, decision.decided_at_ms, changes, now_ms)
            mark_settled(decision, [state for state, _, _ in settling])
        except BaseException:
            for state, _, saved in settling:
                state.undo(saved)
                # Its lowest debts may have been lowered already: the next attempt counts it as undeclared.
                state.close_claim(claim_id)
            raise
        self._cut_off_tokens += cut_off_tokens
        return True

    def _withdraw(self, decision: Decision | None = None) -> None:
        """Take back a claim that an exception has interrupted after its decision."""
        if decision is not None and decision.holder is not None:
            holder = decision.holder
            discard_all(holder if type(holder) is tuple else (holder,), decision.lease_id)
            self.refund(decision)
