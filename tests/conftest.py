"""What all tests share."""

from collections.abc import Iterator

import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import settings

# How long an example takes says how busy the machine is.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")
pytest_plugins = ["tests.host_processes", "tests.redis_servers", "tests.redis_groups"]


@pytest.fixture
def anyio_backend() -> str:
    """Async tests run on asyncio."""
    return "asyncio"


@pytest.fixture(autouse=True)
def nothing_blocks_the_event_loop() -> Iterator[BlockBuster]:
    """A call that would block an event loop, made from one, is an error."""
    with blockbuster_ctx("awx_ratelimit") as blockbuster:
        yield blockbuster
