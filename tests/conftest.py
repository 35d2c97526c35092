"""Settings and fixtures of all tests."""

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import settings

# The duration of an example only shows how busy the machine is.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")
pytest_plugins = [
    "tests.parallel", "tests.redis_servers", "tests.redis_groups", "tests.postgres_servers",
]  # fmt: skip


# The collection makes hundreds of thousands of objects, and none of them is garbage.
gc.disable()


def pytest_collection_finish() -> None:
    """Exempt the collected tests from garbage collection, whose full runs stop the process for half a second each."""
    gc.freeze()
    gc.enable()


@pytest.fixture
def anyio_backend() -> str:
    """Async tests run on asyncio."""
    return "asyncio"


@pytest.fixture(autouse=True)
def nothing_blocks_the_event_loop() -> Iterator[BlockBuster]:
    """A call that would block an event loop, made from one, is an error."""
    with blockbuster_ctx("awx_ratelimit") as blockbuster:
        yield blockbuster


_IN_OWN_PROCESS = "AWX_TEST_IN_OWN_PROCESS"


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is marked `own_process` in a process without the threads of other tests."""
    if pyfuncitem.get_closest_marker("own_process") is None or _IN_OWN_PROCESS in os.environ:
        return None
    with TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "--basetemp", str(Path(folder) / "base"), pyfuncitem.nodeid],
            cwd=pyfuncitem.config.rootpath,
            env={**os.environ, _IN_OWN_PROCESS: "1"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    return True
