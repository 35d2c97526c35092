"""A guard under the whole contract: around a backend that works, it changes nothing."""

from awx_ratelimit import MemoryBackend
from awx_ratelimit.backends.resilience.guarded import AsyncGuardedBackend
from awx_ratelimit.backends.resilience.guarded_sync import GuardedBackend
from awx_ratelimit.testing import BackendContract, ManualClock


class TestGuardedBackend(BackendContract):
    def backend(self, clock: ManualClock) -> GuardedBackend:
        return GuardedBackend(MemoryBackend(clock=clock))


class TestAsyncGuardedBackend(BackendContract):
    def backend(self, clock: ManualClock) -> AsyncGuardedBackend:
        return AsyncGuardedBackend(MemoryBackend(clock=clock))
