"""What the other tests stand on: a server that cannot start is a failure, and none is left behind."""

from pathlib import Path

import pytest
from tests.servers.harness import SPECS, Spec, running
from tests.servers.wire import Connection

#: Those whose work is done by children of the process that was started.
WITH_WORKERS = [spec for spec in SPECS if spec.name in ("hypercorn", "gunicorn-preload", "granian-wsgi")]


@pytest.mark.parametrize("module", ["no_such_server", "uvicorn tests.servers.no_such_app:app"])
def test_a_server_that_cannot_start_is_a_failure(tmp_path: Path, module: str) -> None:
    """A server that is not installed, or whose app cannot be imported, fails the test and shows its log."""
    with (
        pytest.raises(pytest.fail.Exception, match=r"(?s)ended with [0-9]+:.*no_such"),
        running(Spec("broken", "asgi", module), tmp_path),
    ):
        pass


@pytest.mark.parametrize("spec", WITH_WORKERS, ids=str)
def test_no_server_is_left(tmp_path: Path, spec: Spec) -> None:
    """A server is gone when its block ends, and when a test fails in it, with all its workers."""
    with pytest.raises(ZeroDivisionError), running(spec, tmp_path) as server:
        raise ZeroDivisionError

    with pytest.raises(ConnectionRefusedError):
        Connection(server.port)
