"""Decides and settles claims of several records, under the locks of all of them.

The records are written one after the other. A process that is killed in between has charged the first of them for a
claim that it never allowed, so no limit is exceeded, and its slots are free. After an exception all records are
restored.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from awx_ratelimit.backends.host.cell import HEAD, encode_half, write_half
from awx_ratelimit.backends.host.record import HostLedger
from awx_ratelimit.backends.memory.joint_decisions import charge_records, decide_records, found, refuse_records
from awx_ratelimit.core.budget import Record
from awx_ratelimit.core.decision import Decision, JointDecision, joint_decision
from awx_ratelimit.core.hold_times import HoldTimes
from awx_ratelimit.core.joint_claim import Charge, JointClaim
from awx_ratelimit.core.settlement import ActualCost, corrections
from awx_ratelimit.errors import BackendUnavailable


class HostHolder:
    """What is needed of an allowed JointClaim: its id, the ledgers of its slots, and whether it is settled."""

    __slots__ = ("claim_id", "ledgers", "session", "settled")

    def __init__(self, session: object, claim_id: int) -> None:
        self.session = session
        self.claim_id = claim_id
        self.ledgers: list[HostLedger] = []
        self.settled = False


class _Before(NamedTuple):
    """A ledger as it was: the body and the rows of its record, None without one, and its number of granted leases."""

    ledger: HostLedger
    record: tuple[bytes, bytes] | None
    cell_at: int
    granted: int


class JointDecisions:
    """See the module. Every method is called under the locks of its ledgers."""

    def __init__(self, now_ms: Callable[[], int], hold_times: HoldTimes) -> None:
        self._now_ms = now_ms
        self._hold_times = hold_times
        #: What was beyond the largest debts when it was settled.
        self.cut_off_tokens = 0

    def decide(self, ledgers: Sequence[HostLedger], claim: JointClaim, holder: HostHolder) -> Decision:
        """Charge all records and take their slots with the id of `holder`, or change nothing."""
        now_ms, held = self._read(ledgers, claim)
        refused, results = decide_records(claim, ledgers, held, now_ms)
        if refused:
            return self._refused(ledgers, claim, results, held, now_ms)
        for number, (charge, ledger) in enumerate(zip(claim.shape.charges, ledgers, strict=True)):
            if charge.plan.slot_bit and held[number] < charge.plan.slots:
                held[number] += 1
                holder.ledgers.append(ledger)
                if not ledger.counter:
                    ledger.table.leases.ensure_counters(ledger)
        before = _before(ledgers)
        try:
            self._charge(ledgers, claim, results, holder, now_ms)
            for ledger in ledgers:
                ledger.table.write(ledger, now_ms, sweeps=False)
        except BaseException:
            _restore(before, holder.claim_id)
            raise
        _sweep(before, now_ms)
        lease_id = holder.claim_id if holder.ledgers else 0
        return joint_decision(claim, now_ms, found(claim, results, held, self._hold_times), lease_id, holder)

    def peek(self, ledgers: Sequence[HostLedger], claim: JointClaim) -> Decision:
        """What `decide` would answer."""
        now_ms, held = self._read(ledgers, claim)
        _, results = decide_records(claim, ledgers, held, now_ms)
        return self._refused(ledgers, claim, results, held, now_ms)

    def settle(
        self,
        ledgers: Sequence[HostLedger],
        decision: Decision,
        actual: ActualCost,
        charged: Sequence[tuple[Record, Charge, int]],
    ) -> bool:
        """Correct what a decision `charged`, once. Returns whether this call does."""
        if _is_settled(decision):
            return False
        claim_id = decision.holder.claim_id if isinstance(decision, JointDecision) else 0
        changes = [corrections(charge, exceeded, actual) for _, charge, exceeded in charged]
        for ledger, (_, charge, _) in zip(ledgers, charged, strict=True):
            if not ledger.table.read(ledger):
                ledger.start(charge.plan)
        now_ms = self._now_ms()
        before = _before(ledgers)
        cut_off_tokens = 0
        try:
            for ledger, each in zip(ledgers, changes, strict=True):
                if each or ledger.open is not None:
                    cut_off_tokens += ledger.settle(claim_id, decision.decided_at_ms, each, now_ms)
                    # A record that is not in the file any more has nothing to give back.
                    if ledger.cell_at or any(ledger.levels):
                        ledger.table.write(ledger, now_ms, sweeps=False)
            _mark_settled(decision, settled=True)
        except BaseException:
            _mark_settled(decision, settled=False)
            _restore(before, 0)
            raise
        _sweep(before, now_ms)
        self.cut_off_tokens += cut_off_tokens
        return True

    def _read(self, ledgers: Sequence[HostLedger], claim: JointClaim) -> tuple[int, list[int]]:
        """Read all records. Returns the time, and how many slots are in use in each of them."""
        for ledger, charge in zip(ledgers, claim.shape.charges, strict=True):
            if not ledger.table.read(ledger):
                ledger.start(charge.plan)
        now_ms = self._now_ms()
        pairs = zip(ledgers, claim.shape.charges, strict=True)
        return now_ms, [ledger.table.leases.held(ledger, charge.plan.slots, now_ms) for ledger, charge in pairs]

    def _refused(
        self,
        ledgers: Sequence[HostLedger],
        claim: JointClaim,
        results: list[tuple[int, list[int]]],
        held: list[int],
        now_ms: int,
    ) -> Decision:
        """A decision that charges nothing. It writes what changed nevertheless; nearly always that is nothing."""
        cells = [ledger.cached_cell for ledger in ledgers]
        before = [(ledger.levels, ledger.kept, ledger.keep_until_ms) for ledger in ledgers]
        for ledger in ledgers:
            ledger.cached_cell = None
        refuse_records(claim, ledgers, results, now_ms)
        for ledger, cell, was in zip(ledgers, cells, before, strict=True):
            if (ledger.levels, ledger.kept, ledger.keep_until_ms) == was:
                ledger.cached_cell = cell
            else:
                ledger.table.write(ledger, now_ms, sweeps=False)
        return joint_decision(claim, now_ms, found(claim, results, held, self._hold_times), 0, None)

    def _charge(
        self,
        ledgers: Sequence[HostLedger],
        claim: JointClaim,
        results: list[tuple[int, list[int]]],
        holder: HostHolder,
        now_ms: int,
    ) -> None:
        charge_records(claim, ledgers, results, holder.claim_id, now_ms)
        for ledger, charge in zip(ledgers, claim.shape.charges, strict=True):
            ledger.drop_drained_beyond_few(now_ms)
            ledger.drop_old_claims(now_ms)
            if ledger in holder.ledgers:
                max_hold_ms = charge.plan.max_hold_ms
                ledger.table.leases.grant(ledger, holder.claim_id, now_ms + max_hold_ms if max_hold_ms else None)


def _before(ledgers: Sequence[HostLedger]) -> list[_Before]:
    """Save what `_restore` needs. From now on every ledger is read again, unless it is written."""
    before = [_Before(ledger, _record(ledger), ledger.cell_at, ledger.granted) for ledger in ledgers]
    for ledger in ledgers:
        ledger.cached_cell = None
    return before


def _restore(before: list[_Before], claim_id: int) -> None:
    """Undo an interrupted step in every record, whether it was written or not, and release its slots."""
    for ledger, record, _, granted in before:
        if claim_id:
            ledger.table.leases.cancel(ledger, claim_id, granted)
        with suppress(BackendUnavailable):
            _restore_record(ledger, record)


def _record(ledger: HostLedger) -> tuple[bytes, bytes] | None:
    """The body and the rows of a record that was just read."""
    if not ledger.cell_at:
        return None
    memory, at = ledger.table.file.memory, ledger.cell_at + ledger.half_offset
    _, body_bytes = HEAD.unpack_from(memory, at)
    return memory[at + HEAD.size : at + HEAD.size + body_bytes], bytes(ledger.open_rows)


def _restore_record(ledger: HostLedger, record: tuple[bytes, bytes] | None) -> None:
    """Write a record again that the file had; None: it had none. Loads it into `ledger`."""
    table = ledger.table
    ledger.cached_cell = None
    if not table.read(ledger):
        return
    if record is None:
        table.delete(ledger)
        return
    content = encode_half(ledger.write_number + 1, record[0])
    write_half(table.file.memory, ledger.cell_at, ledger.cell_bytes, ledger.half_offset, content, record[1])
    ledger.cached_cell = None
    table.read(ledger)


def _sweep(before: list[_Before], now_ms: int) -> None:
    """Sweep after new records, as `Table.write` does."""
    for ledger, _, cell_at, _ in before:
        if ledger.cell_at != cell_at:
            ledger.table.sweep(ledger.shard, now_ms)


def _is_settled(decision: Decision) -> bool:
    return decision.holder.settled if isinstance(decision, JointDecision) else len(decision.levels) % 2 == 1


def _mark_settled(decision: Decision, *, settled: bool) -> None:
    """Mark a decision. A plain one is marked by an extra number in its levels, which no ledger may share then."""
    levels = decision.levels
    if isinstance(decision, JointDecision):
        decision.holder.settled = settled
    elif settled and isinstance(levels, list):
        levels.append(0)
    elif len(levels) % 2 and isinstance(levels, list):
        levels.pop()
