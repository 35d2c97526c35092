"""`ShardedMemory`: the shards of the memory backend, their locks in order, and their sweep."""

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, Final

from awx_ratelimit.backends.memory.leases import leases_of
from awx_ratelimit.backends.memory.shard import Shard
from awx_ratelimit.backends.memory.subject_state import SubjectState
from awx_ratelimit.backends.reports import BackendObserver
from awx_ratelimit.backends.validation import checked_clock
from awx_ratelimit.core.budget import Record, ScopedSubject, subject_of
from awx_ratelimit.core.claim import check_subject
from awx_ratelimit.core.hold_times import HoldTimes
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.runtime.clock import Clock, SystemClock
from awx_ratelimit.runtime.mypyc import mypyc_attr

SHARDS: Final = 64
MASK: Final = 63
#: Clients may choose scopes. With more of them, a reset of all looks through all subjects.
MAX_SCOPES: Final = 1_000
_SWEEP_INTERVAL_MS: Final = 4
_SWEEP_AFTER_LOADS: Final = 4


@mypyc_attr(allow_interpreted_subclasses=True)
class ShardedMemory:
    """The part of MemoryBackend that knows shards and no claims."""

    def begin(self, clock: Clock | None = None) -> None:
        """Forget everything, including leases, and use `clock`. For tests."""
        #: The clock that this backend was given; claims that wait use it, too, if it is one for tests.
        self.clock = SystemClock() if clock is None else checked_clock(clock)
        #: A user's clock may return anything.
        self._now_ms: Callable[[], Any] = self.clock.now_ms
        #: Of all holders; see Leases.
        self._owner = object()
        #: In the holder of joint claims that took no slot.
        self._no_leases = leases_of(self._owner)
        self._shards = [Shard(self._owner) for _ in range(SHARDS)]
        self._lease_ids = count(1)
        self._hold_times = HoldTimes()
        self._unmeasured = 0
        self._loaded_since_sweep = 0
        self._sweep_at_ms = 0
        self._sweep_next = 0
        #: The scopes so far; incomplete when there are MAX_SCOPES.
        self._scopes: dict[str, None] = {}
        self._cut_off_tokens = 0

    def observe(self, observer: BackendObserver) -> None:
        """See `Observable`."""
        self._hold_times.observe(observer.held)

    def _shards_of(self, records: Sequence[Record]) -> list[Shard]:
        """The shards of these records, each once, in the order in which everybody locks them."""
        return [self._shards[number] for number in sorted({hash(record) & MASK for record in records})]

    def _records_of(self, subject: str) -> list[Record]:
        """The record of `subject` without a scope, and those in all scopes."""
        if len(self._scopes) < MAX_SCOPES:
            return [subject, *(ScopedSubject(subject, scope) for scope in self._scopes.copy())]
        records = []
        for shard in self._shards:
            with shard.lock:
                records += [record for record in (*shard.states, *shard.packed) if subject_of(record) == subject]
        return records

    def _locked(self, shards: Sequence[Shard], first: int, act: Callable[..., Any], *args: Any) -> Any:
        """Call `act` under the locks of `shards` from number `first` on."""
        if first == len(shards):
            return act(*args)
        shard = shards[first]
        for taken in shard.attempts:
            if not taken:
                shard.wait()
                continue
            try:
                return self._locked(shards, first + 1, act, *args)
            finally:
                shard.lock.release()
        raise AssertionError

    def _load_state(self, shard: Shard, subject: Record, plan: Plan) -> SubjectState:
        if not subject:
            check_subject(subject)
        self._loaded_since_sweep += 1
        if self._loaded_since_sweep >= _SWEEP_AFTER_LOADS:
            self._sweep_at_ms = 0
        return shard.load(subject, plan)

    def _sweep(self, now_ms: int) -> None:
        """Do one step of the sweep: after every few new subjects, so that it keeps up, and every few milliseconds."""
        self._loaded_since_sweep = 0
        self._sweep_at_ms = now_ms + _SWEEP_INTERVAL_MS
        self._sweep_next = (self._sweep_next + 1) % SHARDS
        shard = self._shards[self._sweep_next]
        if shard.has_nothing_to_sweep():
            return
        # One attempt: if the shard is in use, sweep it another time, so that nobody waits for a sweep.
        for taken in shard.attempts:
            if taken:
                try:
                    shard.sweep(now_ms)
                finally:
                    shard.lock.release()
            break
