"""What all tests share."""

from collections.abc import Iterator

import pytest
from blockbuster import BlockBuster, blockbuster_ctx

pytest_plugins = ["tests.host_processes", "tests.redis_servers"]


@pytest.fixture
def anyio_backend() -> str:
    """Async tests run on asyncio."""
    return "asyncio"


@pytest.fixture(autouse=True)
def nothing_blocks_the_event_loop() -> Iterator[BlockBuster]:
    """A call that would block an event loop, made from one, is an error."""
    with blockbuster_ctx("awx_ratelimit") as blockbuster:
        yield blockbuster
