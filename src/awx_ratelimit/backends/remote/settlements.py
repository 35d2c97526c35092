"""What claims turned out to cost more or less: the calls that say so, and their replies."""

import threading
from collections import deque
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import suppress
from operator import length_hint
from typing import NamedTuple, TypeAlias

from awx_ratelimit.backends.remote.dialect import Codec, Settlement
from awx_ratelimit.backends.remote.encoding import encode_calendar
from awx_ratelimit.backends.remote.leases import Leases
from awx_ratelimit.backends.remote.pending_claims import (
    MAX_PERIOD_TRIES,
    OtherPeriod,
    PendingClaim,
    period_error,
    records_of,
)
from awx_ratelimit.backends.remote.present import Present
from awx_ratelimit.backends.remote.replies import Call, Reply, raise_error
from awx_ratelimit.core.budget import Record
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.settlement import NOTHING, ActualCost, charges, corrections
from awx_ratelimit.errors import BackendUnavailable

#: A process that cannot reach its server keeps this many refunds of abandoned decisions and claims to forget.
_MAX_UNAWAITED = 10_000
#: How long they are sent again: as long as the server keeps an open claim.
_RETRIED_MS = 600_000
#: A process that cannot reach its server keeps this many settlements that nobody waits for.
_MAX_QUEUED = 10_000
#: A call settles this many, and one more for each of its claims: so it settles no fewer than it adds.
_MIN_PER_CALL = 32
#: Called with the reason if the server may not have a settlement. It never raises.
OnFailure: TypeAlias = Callable[[BackendUnavailable], None]


class PendingSettlement(NamedTuple):
    """What a claim cost more or less, in records of one slot. `record` is one of them.

    For `claim_id`, `declared` and `again` see JointCodec.settle. `calendars` are those that the server has asked for,
    with the times whose periods it lacked.
    """

    record: Record
    settlements: Sequence[Settlement]
    decided_at_ms: int
    claim_id: int
    declared: bool = True
    again: bool = False
    calendars: tuple[tuple[bytes, int], ...] = ()


class QueuedSettlement(NamedTuple):
    """A settlement that nobody waits for: it is sent before the next claims, or by the maintenance thread.

    `first` has one element, for the thread that sends it first.
    """

    decision: Decision
    pending: PendingSettlement
    failed: OnFailure
    first: Iterator[bool]
    tries_left: int = MAX_PERIOD_TRIES

    def to_send(self) -> "QueuedSettlement":
        """Itself, for one call. Several threads may ask at the same time."""
        pending = self.pending
        is_first = next(self.first, False)
        return self if is_first or not pending.declared else self._replace(pending=pending._replace(again=True))


class Settlements:
    """`split` groups settlements by the call that they may share. `wake` is called when there is something to send."""

    def __init__(
        self,
        codec: Codec,
        leases: Leases,
        present: Present,
        split: Callable[[Sequence[Settlement]], list[list[Settlement]]],
        wake: Callable[[], None],
        server_name: str,
    ) -> None:
        self._server_name = server_name
        self._codec = codec
        self._leases = leases
        self._present = present
        self._split = split
        self._wake = wake
        self._unawaited: deque[PendingSettlement] = deque(maxlen=_MAX_UNAWAITED)
        #: By claim id.
        self._queue: dict[int, QueuedSettlement] = {}
        self._lock = threading.Lock()
        self.cut_off_tokens = 0

    def of(self, decision: Decision, actual: ActualCost) -> list[PendingSettlement] | None:
        """What to correct after `decision`, by slot; None if it was settled before, or was not granted here."""
        if not self._leases.start_settlement(decision):
            return None
        grant = decision.holder
        declared_id: int = grant.declared_id
        grant.settle_id = grant.settle_id or declared_id or self._codec.new_lease_id()
        again = grant.was_sent and declared_id != 0
        found = [(record, corrections(charge, exceeded, actual)) for record, charge, exceeded in charges(decision)]
        changed: list[Settlement] = [(record, changes) for record, changes in found if changes or declared_id]
        groups = self._split(changed)
        claim = decision.decided_at_ms, grant.settle_id, declared_id != 0, again
        return [PendingSettlement(group[0][0], group, *claim) for group in groups]

    def queue(self, decision: Decision, actual: ActualCost, failed: OnFailure) -> bool:
        """Settle `decision` with one of the next calls; whether that counts. Records of several slots need `of`."""
        settling = self.of(decision, actual)
        if settling is None:
            return False
        for pending in settling:
            queued = QueuedSettlement(decision, pending, failed, iter((True,)))
            if len(self._queue) >= _MAX_QUEUED:
                self._fail(
                    queued, BackendUnavailable(f"{self._server_name}: {_MAX_QUEUED} settlements wait to be sent")
                )
                continue
            self._queue[pending.claim_id] = queued
            self._wake()
        return self._leases.count_settlement(decision)

    @property
    def is_queued(self) -> bool:
        """Whether a settlement waits to be sent, or is in flight."""
        return bool(self._queue)

    def unsent_ids(self) -> set[int]:
        """What waits to be sent, and is in no call."""
        return {claim_id for claim_id, each in self._queue.copy().items() if length_hint(each.first)}

    def next_queued(
        self, claims: Sequence[PendingClaim] = (), only: Container[int] | None = None
    ) -> list[QueuedSettlement]:
        """What a call with `claims` settles: what concerns them first. The caller calls `finish` or `fail` for it.

        It stays queued until then: a claim that is sent meanwhile must know it. What is sent twice counts once.
        """
        queued = [each for claim_id, each in self._queue.copy().items() if only is None or claim_id in only]
        limit = _MIN_PER_CALL + len(claims)
        if len(queued) > limit:
            records = {record for claim in claims for record in records_of(claim)}
            queued.sort(key=lambda each: each.pending.record not in records)
        return [each.to_send() for each in queued[:limit]]

    def finish(self, queued: Sequence[QueuedSettlement], replies: Sequence[Reply]) -> None:
        """Read the replies. What lacked a calendar period stays queued."""
        for each, reply in zip(queued, replies, strict=False):
            try:
                again = self.settled(each.pending, reply)
            except BackendUnavailable as error:
                self.fail([each], error)
                continue
            if again is None:
                self._queue.pop(each.pending.claim_id, None)
            elif each.tries_left < 1:
                self.fail([each], period_error("settlement", self._server_name))
            else:
                self._queue_again(each, again)

    def fail(self, queued: Sequence[QueuedSettlement], error: BaseException) -> None:
        """The server may not have these settlements. They stay queued if only the call was interrupted."""
        for each in queued:
            if not isinstance(error, Exception):
                self._queue_again(each, each.pending._replace(again=each.pending.declared))
            # Another call may have had an answer for it.
            elif self._queue.pop(each.pending.claim_id, None) is not None:
                self._fail(each, error)

    def _queue_again(self, each: QueuedSettlement, pending: PendingSettlement) -> None:
        if pending.claim_id in self._queue:
            again = each._replace(pending=pending, first=iter((True,)), tries_left=each.tries_left - 1)
            self._queue[pending.claim_id] = again
            self._wake()

    def _fail(self, queued: QueuedSettlement, error: BaseException) -> None:
        self.reopen(queued.decision)
        known = isinstance(error, BackendUnavailable)
        queued.failed(error if known else BackendUnavailable(f"{self._server_name}: a call was interrupted"))  # type: ignore[arg-type]

    def reopen(self, decision: Decision) -> None:
        """The settlement of `decision` may have failed: the next one counts if the server did not get this one."""
        self._leases.reopen_settlement(decision)

    def close_later(self, decision: Decision) -> None:
        """Forget a declared claim that keeps its charge, with the next call of the maintenance thread."""
        closed: list[Settlement] = [(record, ()) for record, _, _ in charges(decision)]
        pending = PendingSettlement(closed[0][0], closed, decision.decided_at_ms, decision.holder.declared_id)
        self._unawaited.append(pending)
        self._wake()

    def take_pending(self) -> list[PendingSettlement]:
        """Remove and return what no caller waits for: refunds of abandoned decisions, and claims to forget."""
        pending = [each for decision in self._leases.take_abandoned() for each in self.of(decision, NOTHING) or ()]
        with suppress(IndexError):  # another thread may take them at the same time
            while True:
                pending.append(self._unawaited.popleft())
        return pending

    def put_back(
        self, pending: Sequence[PendingSettlement], replies: Sequence[Reply]
    ) -> tuple[list[PendingSettlement], list[Reply]]:
        """Send those without a reply again with a later call, unless they are too old. Returns all others."""
        since_ms = self._present.ms() - _RETRIED_MS
        answered: tuple[list[PendingSettlement], list[Reply]] = [], []
        for each, reply in zip(pending, replies, strict=True):
            if not isinstance(reply, BackendUnavailable):
                answered[0].append(each)
                answered[1].append(reply)
            elif each.decided_at_ms > since_ms:
                self._unawaited.append(each._replace(again=each.declared))
        return answered

    def call(self, pending: PendingSettlement) -> Call:
        """The call that settles it."""
        _, settlements, decided_at_ms, claim_id, declared, again, asked = pending
        now_ms = self._present.ms()
        # Nearly always, a debt is counted by the calendar of the claim.
        own = {(encode_calendar(rate), now_ms) for _, changes in settlements for rate, _ in changes if rate.period}
        calendars, call_time_ms = sorted(own.union(asked)), self._present.call_time_ms()
        return self._codec.joint.settle(
            settlements, decided_at_ms, claim_id, call_time_ms, calendars, declared=declared, again=again
        )

    def settled(self, pending: PendingSettlement, reply: Reply) -> PendingSettlement | None:
        """What to send again, with the calendar period that it lacked. Raises BackendUnavailable."""
        answer = self._codec.joint.parse_settled(pending.settlements, raise_error(reply))
        if isinstance(answer, OtherPeriod):
            self._present.note(answer)
            return pending._replace(calendars=(*pending.calendars, (answer.calendar, answer.at_ms)))
        if answer:
            with self._lock:
                self.cut_off_tokens += answer
        return None
