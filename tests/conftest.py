"""Settings and fixtures of all tests."""

import gc
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from tests.selection import EXAMPLES

_IN_OWN_PROCESS = "AWX_TEST_IN_OWN_PROCESS"
pytest_plugins = ["tests.parallel"]
# Tests in processes of their own need neither: the imports would take longer than the tests.
if _IN_OWN_PROCESS not in os.environ:
    from hypothesis import settings

    # The duration of an example only shows how busy the machine is.
    settings.register_profile("any machine", deadline=None, max_examples=38 * EXAMPLES)
    settings.load_profile("any machine")
    pytest_plugins += ["tests.redis_servers", "tests.redis_groups", "tests.postgres_servers"]


# The collection makes hundreds of thousands of objects, and none of them is garbage.
gc.disable()


def pytest_collection_finish() -> None:
    """Exempt the collected tests from garbage collection, and let it look through all other objects rarely.

    Frameworks that tests load are no garbage either: full runs took a tenth of a second each.
    """
    gc.freeze()
    gc.set_threshold(700, 10, 100)
    gc.enable()


@pytest.fixture
def anyio_backend() -> str:
    """Async tests run on asyncio."""
    return "asyncio"


@pytest.fixture(scope="session")
def blockbuster() -> Iterator[BlockBuster]:
    """Replaces the functions that block. Doing so for each test would take half a millisecond."""
    with blockbuster_ctx("awx_ratelimit") as active:
        yield active


@pytest.fixture(autouse=True)
def nothing_blocks_the_event_loop(blockbuster: BlockBuster) -> BlockBuster:
    """A call that would block an event loop, made from one, is an error. A test may deactivate this for itself."""
    blockbuster.activate()
    return blockbuster


@pytest.fixture(autouse=True, scope="session")
def pages_are_paths() -> Iterator[None]:
    """Texts name pages by their path in tests, also after the site has got an address."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("awx_ratelimit.runtime.documentation.SITE", "")
        yield


@pytest.fixture(autouse=True)
def no_project_of_django_is_left() -> Iterator[None]:
    """Undo what programs of pages set: Celery checks the project of Django that this variable names."""
    before = os.environ.get("DJANGO_SETTINGS_MODULE")
    yield
    if os.environ.get("DJANGO_SETTINGS_MODULE") != before:
        del os.environ["DJANGO_SETTINGS_MODULE"]
        if before is not None:
            os.environ["DJANGO_SETTINGS_MODULE"] = before


@pytest.fixture(autouse=True)
def root_logger_keeps_its_level() -> Iterator[None]:
    """Undo what frameworks set when they load an app: later tests expect certain messages, and no others."""
    root = logging.getLogger()
    level = root.level
    yield
    # Setting it clears the caches of all loggers.
    if root.level != level:
        root.setLevel(level)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is marked `own_process` in a process without the threads of other tests."""
    if pyfuncitem.get_closest_marker("own_process") is None or _IN_OWN_PROCESS in os.environ:
        return None
    with TemporaryDirectory() as folder:
        words = ["-q", "-p", "no:hypothesispytest", "--basetemp", str(Path(folder) / "base")]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *words, pyfuncitem.nodeid],
            cwd=pyfuncitem.config.rootpath,
            env={**os.environ, _IN_OWN_PROCESS: "1"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    return True
