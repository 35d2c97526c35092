"""Each server is started once, when the first test asks for it, and all its tests run together."""

from collections.abc import Iterator

import pytest
from tests.servers.harness import Server, running
from tests.servers.nginx import Nginx, running_nginx


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The running server of this test. In the end nothing in its log may be held against the limiter."""
    with running(request.param, tmp_path_factory.mktemp(request.param.name)) as started:
        yield started
    assert started.complaints() == []


@pytest.fixture(scope="session")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """One nginx in front of all the servers."""
    with running_nginx(tmp_path_factory.mktemp("nginx")) as started:
        yield started
