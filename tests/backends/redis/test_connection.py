"""The connection of threads survives exceptions in its caller."""

import sys
from contextlib import suppress
from typing import Any

from blockbuster import BlockBuster
from tests.processes import free_port

from awx_ratelimit import BackendUnavailable
from awx_ratelimit.backends.redis.connection_sync import Connection
from awx_ratelimit.backends.redis.routing import route_to


def test_an_exception_after_locking_frees_the_lock(
    nothing_blocks_the_event_loop: BlockBuster,
) -> None:
    """A signal handler may raise after any call; a profiler runs at the same points."""
    # It puts Python code around `Lock.acquire`.
    nothing_blocks_the_event_loop.deactivate()
    link = Connection(route_to(f"redis://127.0.0.1:{free_port()}", timeout_ms=50, prefix="awx").find_server(b""))

    def interrupt(frame: Any, event: str, arg: Any) -> None:
        if event == "c_return" and frame.f_code is Connection.run.__code__ and arg.__name__ == "acquire":
            raise InterruptedError

    sys.setprofile(interrupt)
    try:
        with suppress(InterruptedError, BackendUnavailable):
            link.run([])
    finally:
        sys.setprofile(None)
    assert not link._lock.locked()
