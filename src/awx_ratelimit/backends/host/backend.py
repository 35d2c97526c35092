"""`HostBackend`: exact limits that the processes of one host share in a file, without a server.

A decision is one step under a lock on a part of the file. The kernel releases that lock when a process dies, and a
process that dies leaves no step half done. A release takes no lock: it is one store that all processes see at once, so
it is safe in finalizers, signal handlers and cancelled tasks. A lease ends with its process at the latest.
"""

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import PurePath
from typing import Any, ClassVar

try:
    from awx_ratelimit.backends.host.session import SEQUENCE_BITS, HostSession
except ImportError as error:
    raise ImportError(f"HostBackend needs 64-bit Linux and a Python with ctypes: {error}") from error

from awx_ratelimit.backends.host.joint import HostHolder, JointDecisions
from awx_ratelimit.backends.host.locks import MAX_WAIT_MS
from awx_ratelimit.backends.host.opening import absolute_path, creator, open_at_start, open_table
from awx_ratelimit.backends.host.record import HostLedger
from awx_ratelimit.backends.host.table import Table
from awx_ratelimit.backends.reports import BackendObserver
from awx_ratelimit.backends.validation import checked_clock, now_ms_of
from awx_ratelimit.core.budget import ScopedSubject
from awx_ratelimit.core.claim import checked_claim, checked_subject
from awx_ratelimit.core.decide import decide, preview
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.hold_times import HoldTimes
from awx_ratelimit.core.joint_claim import Charge, JointClaim
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.settlement import NOTHING, ActualCost, charges
from awx_ratelimit.core.validation import check_bool
from awx_ratelimit.errors import BackendUnavailable
from awx_ratelimit.runtime.clock import Clock, WallClock
from awx_ratelimit.runtime.files import warn_about_folder
from awx_ratelimit.runtime.forks import SAME_PROCESS, register_after_fork, renew_if_forked
from awx_ratelimit.runtime.reopening import Reopenable

#: See "Creating tuples" and "Identity checks" in docs/hot-path.md.
_new = tuple.__new__
_ONE = 1
_SEQUENCE_MASK = (1 << SEQUENCE_BITS) - 1


class HostBackend(Reopenable):
    """Shares exact limits among all processes of this host, in a file that outlives them.

    `path` is an absolute path on a local file system; a missing file is created for this user alone (mode 0600).
    `clock` is an object with ``now_ms() -> int``; None means the system's time. In an event loop no method waits longer
    than `longest_wait_ms` (50 ms) for processes and threads together; then it raises BackendUnavailable. In a
    thread a method waits up to 800 ms for other processes, and up to 1 s in all.

    A symbolic link, and a file that another user owns or can write, are errors: that user could change the recorded
    usage, or kill this process by truncating the file. `allow_other_users` accepts the files of users who trust each
    other. Raises TypeError or ValueError unless `path` is an absolute path, and BackendMisconfigured, with the remedy,
    if the file cannot be used.
    """

    longest_wait_ms: ClassVar[int] = MAX_WAIT_MS
    checks_claims: ClassVar[bool] = True

    def __init__(self, path: str | PurePath, *, clock: Clock | None = None, allow_other_users: bool = False) -> None:
        self._path = absolute_path(path)
        check_bool(allow_other_users, "allow_other_users")
        self._open_table = partial(open_table, self._path, allow_other_users=allow_other_users, create=creator())
        self._now_ms = now_ms_of(WallClock() if clock is None else checked_clock(clock))
        self._hold_times = HoldTimes()
        self._joint = JointDecisions(self._now_ms, self._hold_times)
        self._start_session()
        open_at_start(self._session)
        if not allow_other_users:
            warn_about_folder(self._path)
        register_after_fork(self._after_fork)

    def observe(self, observer: BackendObserver) -> None:
        self._hold_times.observe(observer.held)

    def _start_session(self) -> None:
        self._session = HostSession(self._path, self._now_ms, self._open_table)
        self._unmeasured = 0

    def acquire(self, subject: str, plan: Plan, cost: int) -> Decision:
        if type(subject) is not str or not subject or type(plan) is not Plan or cost is not _ONE:
            subject, plan, cost = checked_claim(subject, plan, cost)
        if not SAME_PROCESS:
            renew_if_forked()
        session = self._session
        lease_id = session.new_lease_id() if plan.slot_bit else 0
        try:
            return session.run(subject, self._decide, plan, cost, lease_id)
        except BaseException:
            # The caller gets no decision, so nobody else can release the lease.
            session.cancel((subject,), lease_id)
            raise

    def _decide(self, ledger: HostLedger, plan: Plan, cost: int, lease_id: int) -> Decision:
        table: Table = ledger.table
        if not table.read(ledger):
            ledger.start(plan)
        now_ms = self._now_ms()
        held = len(ledger.leases)
        if ledger.others or ledger.expiring or ledger.other_expiring:
            held = table.leases.held(ledger, plan.slots, now_ms)
        same = ledger.layout is plan.layout
        state = ledger.levels if same else ledger.levels_under(plan)
        exceeded, levels = decide(plan, state, held, cost, now_ms)
        slot_wait_ms = self._hold_times.slot_wait_ms(plan) if exceeded and exceeded & plan.slot_bit else 0
        if exceeded and exceeded & plan.enforced:
            self._write_refusal(ledger, plan, state, levels, now_ms)
            return _new(Decision, (ledger.record, plan, cost, now_ms, exceeded, levels, held, 0, None, slot_wait_ms))
        ledger.cached_cell = None
        if same:
            ledger.levels = levels
        else:
            ledger.store_charged(plan, levels)
            ledger.drop_drained_beyond_few(now_ms)
        if ledger.open is not None:
            ledger.note_lows(Charge(plan, cost, None), exceeded, levels)
            ledger.drop_old_claims(now_ms)
        if held >= plan.slots:
            lease_id = 0
        if lease_id:
            held += 1
            self._write_with_lease(ledger, plan, lease_id, now_ms)
        else:
            table.write(ledger, now_ms)
        return _new(
            Decision, (ledger.record, plan, cost, now_ms, exceeded, levels, held, lease_id, ledger, slot_wait_ms)
        )

    def _write_with_lease(self, ledger: HostLedger, plan: Plan, lease_id: int, now_ms: int) -> None:
        table: Table = ledger.table
        leases = table.leases
        if not ledger.counter:
            leases.ensure_counters(ledger)
        granted = ledger.granted
        try:
            leases.grant(ledger, lease_id, now_ms + plan.max_hold_ms if plan.max_hold_ms else None)
            table.write(ledger, now_ms)
        except BaseException:
            leases.cancel(ledger, lease_id, granted)
            with suppress(BackendUnavailable, ValueError):
                table.write_leases(ledger, now_ms)
            raise

    def _write_refusal(self, ledger: HostLedger, plan: Plan, state: list[int], levels: list[int], now_ms: int) -> None:
        """Write what a claim changed that was not charged. Nearly always that is nothing, and the cache stays valid."""
        cached_cell, ledger.cached_cell = ledger.cached_cell, None
        before = ledger.levels, ledger.kept, ledger.keep_until_ms
        ledger.note_refusal(plan, state, levels, now_ms)
        if (ledger.levels, ledger.kept, ledger.keep_until_ms) == before:
            ledger.cached_cell = cached_cell
        else:
            ledger.table.write(ledger, now_ms)

    def peek(self, subject: str, plan: Plan, cost: int) -> Decision:
        subject, plan, cost = checked_claim(subject, plan, cost)
        renew_if_forked()
        return self._session.run(subject, self._peek, plan, cost)

    def _peek(self, ledger: HostLedger, plan: Plan, cost: int) -> Decision:
        table: Table = ledger.table
        if not table.read(ledger):
            ledger.start(plan)
        now_ms = self._now_ms()
        held = table.leases.held(ledger, plan.slots, now_ms)
        state = ledger.levels_under(plan)
        exceeded, levels = preview(plan, state, held, cost, now_ms)
        self._write_refusal(ledger, plan, state, levels, now_ms)
        slot_wait_ms = self._hold_times.slot_wait_ms(plan) if exceeded & plan.slot_bit else 0
        return Decision(ledger.record, plan, cost, now_ms, exceeded, levels, held, 0, None, slot_wait_ms)

    def acquire_joint(self, claim: JointClaim) -> Decision:
        if not SAME_PROCESS:
            renew_if_forked()
        session = self._session
        holder = HostHolder(session, session.new_lease_id())
        try:
            return session.run_jointly(claim.records, self._joint.decide, claim, holder)
        except BaseException:
            session.cancel(claim.records, holder.claim_id)
            raise

    def peek_joint(self, claim: JointClaim) -> Decision:
        renew_if_forked()
        return self._session.run_jointly(claim.records, self._joint.peek, claim)

    def release(self, decision: Decision) -> None:
        lease_id, holder = decision[7], decision[8]
        # A forked child that has not decided yet still has its parent's session and decisions.
        if not lease_id or not SAME_PROCESS:
            return
        released = False
        if holder.__class__ is HostLedger:
            released = self._session.release(holder, lease_id)
        elif holder.__class__ is HostHolder:
            released = self._session.release_all(holder.ledgers, lease_id)
        if released and not lease_id & self._unmeasured:
            self._unmeasured |= self._hold_times.measure(decision, lease_id & _SEQUENCE_MASK, self._now_ms)

    def refund(self, decision: Decision) -> bool:
        return self.settle(decision, NOTHING)

    def settle(self, decision: Decision, actual: ActualCost) -> bool:
        renew_if_forked()
        if getattr(decision.holder, "session", None) is not self._session:
            return False
        charged = charges(decision)
        records = [record for record, _, _ in charged]
        return self._session.run_jointly(records, self._joint.settle, decision, actual, charged)  # type: ignore[no-any-return]

    def reset(self, subject: str, scope: str | None = None) -> bool:
        """See Backend. Without a `scope` it also clears the buckets without one."""
        subject = checked_subject(subject)
        renew_if_forked()
        if scope is None:
            return bool(self._session.run(subject, lambda ledger: ledger.table.clear_subject(ledger, self._now_ms())))
        record = ScopedSubject(subject, scope)
        return bool(self._session.run(record, lambda ledger: ledger.table.clear(ledger, self._now_ms())))

    def health(self) -> Mapping[str, Any]:
        """See Backend. Also the leases that this process holds, and the size of the file."""
        renew_if_forked()
        return {"backend": "host", **self._session.health(), "cut_off_tokens": self._joint.cut_off_tokens}

    def close(self) -> None:
        """See Backend. The leases of this process end; recorded usage stays in the file."""
        renew_if_forked()
        self._session.close()

    def reopen(self) -> None:
        """Open the file again if `close` has closed it, as the end of a lifespan does. Leases from before are over."""
        renew_if_forked()
        if self._session.is_closed:
            self._open_again()

    def _after_fork(self) -> None:
        """In a forked child: open the file again, and hold none of the parent's leases."""
        self._session.abandon()
        # While the child still has the rights of its parent.
        self._open_again()

    def _open_again(self) -> None:
        """Open the file. If that fails, the first decision raises."""
        self._start_session()
        with suppress(BackendUnavailable):
            open_at_start(self._session)
