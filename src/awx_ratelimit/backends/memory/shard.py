"""A shard: some of the memory backend's subjects, and the sweep that packs and forgets them. Protected by its lock.

A subject in use has a `SubjectState`. The sweep packs a subject into `bytes` if it has no lease and no new charge since
the previous sweep. That is slower to use, but small, and the garbage collector does not traverse a dict of str and
bytes.
"""

import struct
import time
from functools import partial
from typing import Any, Final, TypeVar

from awx_ratelimit.backends.memory.latch import RETRY_S, Latch, new_lock
from awx_ratelimit.backends.memory.subject_state import SubjectState
from awx_ratelimit.core.bucket import product
from awx_ratelimit.core.budget import Record
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.state_layout import forget_at_ms

#: The number of subjects that one step of the sweep checks: in use, and packed.
SWEEP_IN_USE: Final = 12
SWEEP_PACKED: Final = 16
_NEVER: Final = object()
_Kept = TypeVar("_Kept", SubjectState, bytes)


class _SweepRound:
    """Iterates over the keys of a dict, a few at a time."""

    __slots__ = ("_keys", "max_size")

    def __init__(self) -> None:
        self._keys: list[Record] = []
        #: The most entries of the dict since its last copy.
        self.max_size = 0

    def shrunk(self, table: dict[Record, _Kept]) -> dict[Record, _Kept]:
        """`table`, or a copy if most of its entries are gone: a dict never shrinks by itself."""
        if product(4, len(table)) >= self.max_size:
            return table
        self.max_size = len(table)
        if not table:
            self._keys = []
        return dict(table)

    def few(self, table: dict[Record, _Kept], number: int) -> list[Record]:
        """The next keys of this round, or the first keys of a new one."""
        if not self._keys:
            self._keys = [*table]
            self.max_size = max(self.max_size, len(table))
        few = self._keys[-number:]
        del self._keys[-number:]
        return few


class Shard:
    """See the module."""

    __slots__ = ("_in_use_round", "_owner", "_packed_round", "attempts", "lock", "packed", "states")

    def __init__(self, owner: object = None) -> None:
        #: See Leases.
        self._owner = owner
        self.use_lock(new_lock())
        self.states: dict[Record, SubjectState] = {}
        self.packed: dict[Record, bytes] = {}
        self._in_use_round = _SweepRound()
        self._packed_round = _SweepRound()

    def use_lock(self, lock: Any) -> None:
        """Use `lock` from now on.

        Each pass of ``for taken in shard.attempts:`` tries once to take the lock. See "Taking a lock" in
        docs/hot-path.md for the reason.
        """
        self.lock = lock
        self.attempts: Any = lock if type(lock) is Latch else iter(partial(lock.acquire, False), _NEVER)

    def wait(self) -> None:
        """Let the thread that holds the lock continue, before the next attempt.

        Blocking on the lock instead would form a convoy: the lock is handed to a thread that still waits for the
        interpreter, so the running thread blocks next, and so on. `locked()` does not reveal that either.
        """
        time.sleep(RETRY_S)

    def load(self, subject: Record, plan: Plan) -> SubjectState:
        """The state of `subject`: unpacked, or a new one."""
        state = self.states[subject] = self._unpacked(subject) or SubjectState.new(plan, self._owner)
        return state

    def find(self, subject: Record) -> SubjectState | None:
        """The state of `subject`; None if it has none."""
        state = self.states.get(subject) or self._unpacked(subject)
        if state is not None:
            self.states[subject] = state
        return state

    def _unpacked(self, subject: Record) -> SubjectState | None:
        packed = self.packed.pop(subject, None)
        return None if packed is None else SubjectState.of(packed, self._owner)

    def forget(self, subject: Record, now_ms: int) -> bool:
        """Clear the debts of `subject`; its leases stay. Returns whether a debt was left."""
        state = self.find(subject)
        if state is None:
            return False
        was_in_debt = state.is_in_debt(now_ms)
        state.forget()
        if not state.leases:
            del self.states[subject]
        return was_in_debt

    def after_fork(self) -> None:
        """In a child process: use a new lock, because the parent's may be locked, and drop the parent's leases."""
        self.use_lock(new_lock())
        for state in self.states.values():
            state.drop_leases()

    def has_nothing_to_sweep(self) -> bool:
        """Whether there are no subjects, and no memory of earlier ones. Most shards of a small service are so."""
        if self.states or self.packed:
            return False
        return not (self._in_use_round.max_size or self._packed_round.max_size)

    def sweep(self, now_ms: int) -> None:
        """Check a few subjects: pack the idle ones, and forget those without debts and leases."""
        self.states = self._in_use_round.shrunk(self.states)
        for subject in self._in_use_round.few(self.states, SWEEP_IN_USE):
            state = self.states.get(subject)
            if state is not None:
                self._pack_if_idle(subject, state, now_ms)
        self.packed = self._packed_round.shrunk(self.packed)
        for subject in self._packed_round.few(self.packed, SWEEP_PACKED):
            packed = self.packed.get(subject)
            if packed is not None and forget_at_ms(packed) <= now_ms:
                del self.packed[subject]

    def _pack_if_idle(self, subject: Record, state: SubjectState, now_ms: int) -> None:
        if state.bounds:
            state.end_overdue(now_ms)
        if not state.idle(now_ms):
            return
        try:
            packed = state.packed(now_ms)
        except struct.error:
            # The user's clock gives times beyond 64 bits: do not pack.
            return
        del self.states[subject]
        if packed is not None:
            self.packed[subject] = packed


class _NoLock:
    """A lock that everybody may hold at once."""

    def acquire(self, _blocking: bool = True) -> bool:
        return True

    def release(self) -> None:
        """Nothing is held."""


#: For code that locks a fixed number of shards, of which two may be the same.
NO_SHARD: Final = Shard()
NO_SHARD.use_lock(_NoLock())
