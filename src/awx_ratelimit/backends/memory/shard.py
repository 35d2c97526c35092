"""A share of the memory backend's subjects and the forgetting of them. Used under its lock.

A subject in use has a `SubjectState`. One that was not charged for a round of the sweep, and holds nothing, is packed
into `bytes`: slower, but small, and in a dict of texts and bytes alone, which the garbage collector never walks.
"""

import struct
import threading
import time
from functools import partial
from typing import TypeVar

from awx_ratelimit.backends.memory.subject_state import SubjectState
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.state_layout import forget_at_ms

#: How many subjects one step of the sweep looks at, of those in use and of those that are packed.
SWEEP_IN_USE = 12
SWEEP_PACKED = 16
_NEVER = object()
_LOOK_AGAIN_S = 0.000_05
_Kept = TypeVar("_Kept", SubjectState, bytes)


class _Round:
    """The keys of a dict in turn, a few at a time."""

    __slots__ = ("_keys", "_most")

    def __init__(self) -> None:
        self._keys: list[str] = []
        self._most = 0

    def shrunk(self, table: dict[str, _Kept]) -> dict[str, _Kept]:
        """`table`, or a copy where most of it is gone: a dict never shrinks by itself."""
        if len(table) * 4 >= self._most:
            return table
        self._most = len(table)
        return dict(table)

    def few(self, table: dict[str, _Kept], number: int) -> list[str]:
        """The next keys of this round, or the first of another."""
        if not self._keys:
            self._keys = [*table]
            self._most = max(self._most, len(table))
        few = self._keys[-number:]
        del self._keys[-number:]
        return few


class Shard:
    """The subjects of one stripe."""

    __slots__ = ("_in_use_round", "_packed_round", "ledgers", "lock", "packed", "turns")

    def __init__(self) -> None:
        self.guard_by(threading.Lock())
        self.ledgers: dict[str, SubjectState] = {}
        self.packed: dict[str, bytes] = {}
        self._in_use_round = _Round()
        self._packed_round = _Round()

    def guard_by(self, lock: threading.Lock) -> None:
        """Use this lock from now on.

        Each turn of ``for taken in stripe.turns:`` tries once to take it, in one step: after a call a signal handler
        may raise before a `try` is reached, and then the lock is taken for ever; between an iterator and the body of
        its loop there is no such place, as there is none in `with`, which costs twice as much.
        """
        self.lock = lock
        self.turns = iter(partial(lock.acquire, False), _NEVER)

    def wait(self) -> None:
        """Let the thread that holds the lock go on, before another try.

        Never by sleeping on the lock: the sleeper is handed it while it still waits for the interpreter, so that the
        thread that runs is the next to sleep on it, and so on for ever (a convoy). `locked()` does not see that either.
        """
        time.sleep(_LOOK_AGAIN_S)

    def ledger(self, subject: str, plan: Plan) -> SubjectState:
        """The subject's ledger, woken or made where it had none in use."""
        ledger = self.ledgers[subject] = self._woken(subject) or SubjectState.new(plan)
        return ledger

    def known(self, subject: str) -> SubjectState | None:
        """The subject's ledger if it owes or holds something, or did so of late."""
        ledger = self.ledgers.get(subject) or self._woken(subject)
        if ledger is not None:
            self.ledgers[subject] = ledger
        return ledger

    def _woken(self, subject: str) -> SubjectState | None:
        packed = self.packed.pop(subject, None)
        return None if packed is None else SubjectState.of(packed)

    def forget(self, subject: str) -> None:
        """Owe nothing any more; leases live on."""
        self.packed.pop(subject, None)
        ledger = self.ledgers.get(subject)
        if ledger is not None:
            ledger.forget()
            if not ledger.leases:
                del self.ledgers[subject]

    @property
    def subjects(self) -> int:
        """How many subjects owe or hold something, or did so of late."""
        return len(self.ledgers) + len(self.packed)

    @property
    def leases(self) -> int:
        """How many leases are open."""
        return sum(len(ledger.leases) for ledger in self.ledgers.values())

    def after_fork(self) -> None:
        """In a child: a lock that nobody holds, and none of the parent's leases."""
        self.guard_by(threading.Lock())
        for ledger in self.ledgers.values():
            ledger.drop_leases()

    def sweep(self, now_ms: int) -> None:
        """Look at a few subjects: pack those that are idle, drop those that owe nothing and hold nothing."""
        self.ledgers = self._in_use_round.shrunk(self.ledgers)
        for subject in self._in_use_round.few(self.ledgers, SWEEP_IN_USE):
            ledger = self.ledgers.get(subject)
            if ledger is not None:
                self._pack_if_idle(subject, ledger, now_ms)
        self.packed = self._packed_round.shrunk(self.packed)
        for subject in self._packed_round.few(self.packed, SWEEP_PACKED):
            packed = self.packed.get(subject)
            if packed is not None and forget_at_ms(packed) <= now_ms:
                del self.packed[subject]

    def _pack_if_idle(self, subject: str, ledger: SubjectState, now_ms: int) -> None:
        if ledger.bounds:
            ledger.end_overdue(now_ms)
        if not ledger.idle():
            return
        try:
            packed = ledger.packed(now_ms)
        except struct.error:
            # Times beyond 64 bits, by a clock of the user's: it stays as it is.
            return
        del self.ledgers[subject]
        if packed is not None:
            self.packed[subject] = packed
