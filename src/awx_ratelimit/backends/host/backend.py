"""The processes of one host share exact limits in a file: no server, and no step of a process that dies is half done.

Each decision is one step under a lock on a part of the file, which the kernel takes back from whoever dies. A release
takes no lock at all: it is one store, which all see at once, and is safe in a finalizer, in a signal handler and in a
cancelled task. Leases live as long as their process, which is known for certain.
"""

import logging
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import PurePath
from typing import Any, ClassVar

try:
    from awx_ratelimit.backends.host.session import SEQUENCE_BITS, HostSession
except ImportError as error:
    raise ImportError(f"the host backend needs Linux on 64 bits, and a Python with ctypes: {error}") from error

from awx_ratelimit.backends.base import Clock, checked_clock
from awx_ratelimit.backends.clock import WallClock
from awx_ratelimit.backends.host.mapped_file import FileBeingMade, absolute_path
from awx_ratelimit.backends.host.record import HostLedger
from awx_ratelimit.backends.host.recovery import opened
from awx_ratelimit.backends.host.table import Table
from awx_ratelimit.backends.host.waits import LONGEST_WAIT_MS, begin_to_wait, in_event_loop
from awx_ratelimit.core.claim import checked_claim, checked_subject
from awx_ratelimit.core.decide import decide, preview, refundable
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.hold_times import MEASURED_FIRST, MEASURED_ONE_IN, HoldTimes
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.validation import check_bool
from awx_ratelimit.errors import BackendUnavailable
from awx_ratelimit.runtime.files import warn_about_folder
from awx_ratelimit.runtime.forks import SAME_PROCESS, register_after_fork, renew_if_forked

#: What `Decision(...)` ends in, without the call in between.
_new = tuple.__new__
_log = logging.getLogger("awx_ratelimit")
#: How long who starts waits for another process that makes the file.
_START_WAIT_MS = 5_000
#: CPython has one int object for 1. Whatever else a cost is, it is checked.
_ONE = 1
_SEQUENCE = (1 << SEQUENCE_BITS) - 1


class HostBackend:
    """Decides in a file that all processes of this host share, exactly; the file outlives them all.

    `path` is absolute and on a local file system; the file is made where there is none, for this user alone. `clock`
    is an object with ``now_ms() -> int``; None is the wall time. In an event loop no verb waits longer than
    `longest_wait_ms` (50 ms) for other processes and threads together; then it raises BackendUnavailable. Outside of
    event loops a verb waits as long for processes, and up to 500 ms for threads of its own process.

    Raises TypeError or ValueError for anything but an absolute path, and BackendMisconfigured, which says what to do,
    for one that cannot be used.

    Links are not followed, and a file that another user owns or can write is refused: that user could change what was
    used, or end this process by truncating the file. With `allow_other_users` it is accepted, for workers of several
    users who trust each other.
    """

    #: How long a verb, its constructor included, holds an event loop at most, apart from the disk.
    longest_wait_ms: ClassVar[int] = LONGEST_WAIT_MS
    checks_claims: ClassVar[bool] = True

    def __init__(self, path: str | PurePath, *, clock: Clock | None = None, allow_other_users: bool = False) -> None:
        self._path = absolute_path(path)
        check_bool(allow_other_users, "allow_other_users")
        self._opened = partial(opened, self._path, allow_other_users=allow_other_users)
        self._now_ms = (WallClock() if clock is None else checked_clock(clock)).now_ms
        self._hold_times = HoldTimes()
        self._begin()
        self._open()
        if not allow_other_users:
            warn_about_folder(self._path)
        register_after_fork(self._after_fork)

    def _open(self) -> None:
        if not in_event_loop():
            self._session.open(_START_WAIT_MS)
            return
        # Nothing may hold the loop for so long: what is not there in time is opened by the thread.
        begin_to_wait()
        with suppress(FileBeingMade):
            self._session.open_soon()

    def _begin(self) -> None:
        self._session = HostSession(self._path, self._now_ms, self._opened)
        self._unmeasured = 0

    def acquire(self, subject: str, plan: Plan, cost: int) -> Decision:
        """See Backend."""
        # What nearly every claim is, without a call.
        if type(subject) is not str or not subject or type(plan) is not Plan or cost is not _ONE:
            subject, plan, cost = checked_claim(subject, plan, cost)
        if not SAME_PROCESS:
            renew_if_forked()
        session = self._session
        lease_id = session.new_lease_id() if plan.slot_bit else 0
        try:
            return session.run(subject, self._decide, plan, cost, lease_id)
        except BaseException:
            # Nobody will hear of the lease, if there is one.
            session.take_back(subject, lease_id)
            raise

    def _decide(self, ledger: HostLedger, plan: Plan, cost: int, lease_id: int) -> Decision:
        table: Table = ledger.table
        if not table.read(ledger):
            ledger.begin(plan)
        now_ms = self._now_ms()
        held = len(ledger.leases)
        if ledger.others or ledger.bounded or ledger.other_bounds:
            held = table.leases.held(ledger, plan.slots, now_ms)
        same = ledger.layout is plan.layout
        state = ledger.levels if same else ledger.levels_under(plan)
        exceeded, levels = decide(plan, state, held, cost, now_ms)
        if exceeded and exceeded & plan.enforced:
            self._asked(ledger, plan, state, levels, now_ms)
            slot_wait_ms = self._hold_times.slot_wait_ms(plan) if exceeded & plan.slot_bit else 0
            return _new(Decision, (ledger.subject, plan, cost, now_ms, exceeded, levels, held, 0, None, slot_wait_ms))
        ledger.seen = None
        if not same:
            ledger.change_layout(plan.layout)
            ledger.drop_drained(now_ms)
        ledger.levels = levels
        if held >= plan.slots:
            lease_id = 0
        if lease_id:
            held += 1
            self._write_granted(ledger, plan, lease_id, now_ms)
        else:
            table.write(ledger, now_ms)
        return _new(Decision, (ledger.subject, plan, cost, now_ms, exceeded, levels, held, lease_id, ledger, 0))

    def _write_granted(self, ledger: HostLedger, plan: Plan, lease_id: int, now_ms: int) -> None:
        table: Table = ledger.table
        leases = table.leases
        if not ledger.word:
            leases.regrant(ledger)
        granted = ledger.granted
        try:
            leases.grant(ledger, lease_id, now_ms + plan.max_hold_ms if plan.max_hold_ms else None)
            table.write(ledger, now_ms)
        except BaseException:
            leases.take_back(ledger, lease_id, granted)
            with suppress(BackendUnavailable, ValueError):
                self._session.write_leases(ledger)
            raise

    def _asked(self, ledger: HostLedger, plan: Plan, state: list[int], levels: list[int], now_ms: int) -> None:
        """Write what a claim that charged nothing has changed, which is nearly always nothing."""
        seen, ledger.seen = ledger.seen, None
        before = ledger.levels, ledger.kept, ledger.keep_until_ms
        ledger.asked(plan, state, levels, now_ms)
        if (ledger.levels, ledger.kept, ledger.keep_until_ms) != before:
            ledger.table.write(ledger, now_ms)
        else:
            ledger.seen = seen

    def peek(self, subject: str, plan: Plan, cost: int) -> Decision:
        """See Backend."""
        subject, plan, cost = checked_claim(subject, plan, cost)
        renew_if_forked()
        return self._session.run(subject, self._look, plan, cost)

    def _look(self, ledger: HostLedger, plan: Plan, cost: int) -> Decision:
        table: Table = ledger.table
        if not table.read(ledger):
            ledger.begin(plan)
        now_ms = self._now_ms()
        held = table.leases.held(ledger, plan.slots, now_ms)
        state = ledger.levels_under(plan)
        exceeded, levels = preview(plan, state, held, cost, now_ms)
        self._asked(ledger, plan, state, levels, now_ms)
        slot_wait_ms = self._hold_times.slot_wait_ms(plan) if exceeded & plan.slot_bit else 0
        return Decision(ledger.subject, plan, cost, now_ms, exceeded, levels, held, 0, None, slot_wait_ms)

    def release(self, decision: Decision) -> None:
        """See Backend."""
        _, _, _, _, _, _, _, lease_id, ledger, _ = decision
        # In a child that has not decided yet, the session and every decision are its parent's.
        if lease_id and SAME_PROCESS and self._session.release(ledger, lease_id) and not lease_id & self._unmeasured:
            self._measure(decision)

    def _measure(self, decision: Decision) -> None:
        if decision.lease_id & _SEQUENCE >= MEASURED_FIRST:
            self._unmeasured = MEASURED_ONE_IN - 1
        try:
            self._hold_times.record(decision.plan, self._now_ms() - decision.decided_at_ms)
        except Exception:
            # A release never raises, whatever a clock of the user's does; the slot is free already.
            _log.exception("the clock of a HostBackend failed")

    def refund(self, decision: Decision) -> None:
        """See Backend."""
        renew_if_forked()
        if decision.holder is not None and decision.holder.home is self._session:
            self._session.run(decision.subject, self._refund, decision)

    def _refund(self, ledger: HostLedger, decision: Decision) -> None:
        table: Table = ledger.table
        known = table.read(ledger)
        if ledger.first_refund(decision) and known:
            now_ms = self._now_ms()
            ledger.seen = None
            ledger.refund(refundable(decision, now_ms))
            table.write(ledger, now_ms)

    def reset(self, subject: str) -> None:
        """See Backend."""
        renew_if_forked()
        self._session.run(checked_subject(subject), self._forget)

    def _forget(self, ledger: HostLedger) -> None:
        table: Table = ledger.table
        if table.read(ledger):
            now_ms = self._now_ms()
            ledger.seen = None
            ledger.forget()
            if table.leases.held(ledger, 0, now_ms):
                table.write(ledger, now_ms)
            else:
                table.give_up(ledger)

    def health(self) -> Mapping[str, Any]:
        """See Backend: the leases that this process holds, and how large the file is."""
        renew_if_forked()
        return {"backend": "host", **self._session.health()}

    def close(self) -> None:
        """See Backend. The leases of this process end; what was used is kept."""
        renew_if_forked()
        self._session.close()

    def _after_fork(self) -> None:
        """In a child process: leases and an opened file of its own, and none of the parent's."""
        self._session.abandon()
        self._begin()
        # While the child may still do what its parent might; else the first decision says why it cannot.
        with suppress(BackendUnavailable):
            self._open()
