"""The memory backend under the whole contract."""

from tests.selection import steps

from awx_ratelimit import MemoryBackend
from awx_ratelimit.testing import BackendContract, ManualClock


class TestMemoryBackend(BackendContract):
    exact_steps = steps(6_000, full=96_000)

    def backend(self, clock: ManualClock) -> MemoryBackend:
        return MemoryBackend(clock=clock)
