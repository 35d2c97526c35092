"""`MemoryBackend`: limits in the memory of one process.

Subjects are spread over shards. Each shard has a lock, held only for the arithmetic. `release` takes no lock (see
`SubjectState`), so it is safe in finalizers, signal handlers and cancelled tasks.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Never

from awx_ratelimit.backends.memory.deciding_memory import DecidingMemory
from awx_ratelimit.backends.memory.uninterrupted import claimed, claimed_jointly
from awx_ratelimit.backends.memory.worker_warning import warn_about_workers
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.joint_claim import JointClaim
from awx_ratelimit.core.validation import type_name
from awx_ratelimit.runtime.clock import Clock
from awx_ratelimit.runtime.compiled import IS_COMPILED
from awx_ratelimit.runtime.forks import register_after_fork, register_first_decision, renew_if_forked


class MemoryBackend(DecidingMemory):
    """Decides in the memory of this process, exactly and without waiting. Each process has separate limits.

    A limiter that uses it logs a warning if this process is one of several workers of a server.

    `clock` is an object with ``now_ms() -> int``; None is the time of this machine. Subjects without debts and leases
    are forgotten after a minute, a few at a time.
    """

    longest_wait_ms: ClassVar[int] = 0
    checks_claims: ClassVar[bool] = True

    def __init__(self, *misplaced: Never, clock: Clock | None = None) -> None:
        if misplaced:
            raise TypeError(
                f"MemoryBackend takes only a clock, got {type_name(misplaced[0])}; "
                "write MemoryBackend(), or open_backend(url) for a backend at a URL"
            )
        self.begin(clock)
        self._is_used = False
        register_after_fork(self.after_fork)
        register_first_decision(self._warn_of_workers)

    if IS_COMPILED:

        def acquire(self, subject: Any, plan: Any, cost: Any) -> Decision:
            return claimed[self, subject, plan, cost]

        def acquire_joint(self, claim: JointClaim) -> Decision:
            return claimed_jointly[self, claim]

    def health(self) -> Mapping[str, Any]:
        """See Backend. Counts the subjects in memory and the open leases."""
        renew_if_forked()
        subjects = leases = 0
        for shard in self._shards:
            with shard.lock:
                subjects += len(shard.states) + len(shard.packed)
                leases += sum(len(state.leases) for state in shard.states.values())
        counts = {"subjects": subjects, "leases": leases, "cut_off_tokens": self._cut_off_tokens}
        return {"state": "ok", "backend": "memory", **counts}

    def close(self) -> None:
        """See Backend. There is nothing to close."""

    def after_fork(self) -> None:
        """In a child process: replace the locks, and drop the parent's leases."""
        for shard in self._shards:
            shard.after_fork()

    def _warn_of_workers(self) -> None:
        if self._is_used:
            warn_about_workers()

    def used_by_limiter(self) -> None:
        """See WarnsOnUse. A GuardedBackend does not call it for its local fallback."""
        self._is_used = True
        warn_about_workers()
