"""The memory backend under the whole contract."""

from tests.selection import EXAMPLES

from awx_ratelimit import MemoryBackend
from awx_ratelimit.testing import BackendContract, ManualClock


class TestMemoryBackend(BackendContract):
    exact_steps = 16_000 * EXAMPLES

    def backend(self, clock: ManualClock) -> MemoryBackend:
        return MemoryBackend(clock=clock)
