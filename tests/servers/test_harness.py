"""The harness: a server that cannot start is a failure, and none is left behind."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.machine import eventually
from tests.selection import parameters
from tests.servers.harness import SPECS, Spec, running
from tests.servers.wire import Connection

#: Those whose work is done by children of the process that was started.
WITH_WORKERS = parameters(
    [spec for spec in SPECS if spec.name in ("hypercorn", "gunicorn-gthread", "granian-wsgi")],
    full=("gunicorn-gthread", "granian-wsgi"),
)
DIES = """
import os, pathlib, sys
from tests.servers.harness import SPECS, running
spec = next(spec for spec in SPECS if spec.name == sys.argv[1])
with running(spec, pathlib.Path(sys.argv[2])) as server:
    print(server.port, flush=True)
    os._exit(1)
"""


@pytest.mark.parametrize("module", ["no_such_server", "uvicorn tests.servers.no_such_app:app"])
def test_a_server_that_cannot_start_is_a_failure(tmp_path: Path, module: str) -> None:
    """A server that is not installed, or whose app cannot be imported, fails the test and shows its log."""
    with (
        pytest.raises(pytest.fail.Exception, match=r"(?s)ended with [0-9]+:.*no_such"),
        running(Spec("broken", "asgi", module), tmp_path),
    ):
        pass


@pytest.mark.parametrize("spec", WITH_WORKERS)
def test_no_server_is_left_by_a_test_that_fails(tmp_path: Path, spec: Spec) -> None:
    """A server is gone when its block ends, with all its workers, though a test fails in it."""
    with pytest.raises(ZeroDivisionError), running(spec, tmp_path) as server:
        raise ZeroDivisionError

    assert _is_refused(server.port)


@pytest.mark.parametrize("spec", WITH_WORKERS)
def test_no_server_is_left_by_tests_that_die(tmp_path: Path, spec: Spec) -> None:
    """A server is gone, with all its workers, when the process of the tests dies without a last word."""
    root = Path(__file__).parents[2]
    died = subprocess.run(
        [sys.executable, "-c", DIES, spec.name, str(tmp_path)], cwd=root, capture_output=True, check=False, timeout=40
    )

    port = int(died.stdout)
    assert eventually(lambda: _is_refused(port), expected=True)


def _is_refused(port: int) -> bool:
    try:
        Connection(port).close()
    except ConnectionRefusedError:
        return True
    return False
