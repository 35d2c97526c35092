"""The host backend under the whole contract."""

from pathlib import Path

import pytest
from tests.selection import steps

from awx_ratelimit.backends.host import HostBackend
from awx_ratelimit.testing import BackendContract, ManualClock


class TestHostBackend(BackendContract):
    exact_steps = steps(4_000, full=48_000)

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def backend(self, clock: ManualClock) -> HostBackend:
        return HostBackend(self.folder / "limits", clock=clock)
