"""The memory backend under the whole contract."""

from awx_ratelimit import MemoryBackend
from awx_ratelimit.testing import BackendContract, ManualClock


class TestMemoryBackend(BackendContract):
    exact_steps = 48_000

    def backend(self, clock: ManualClock) -> MemoryBackend:
        return MemoryBackend(clock=clock)
