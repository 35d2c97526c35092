"""Each server is started once, when the first test asks for it, and all its tests run together."""

from collections.abc import Iterator

import pytest
from tests.servers.harness import SPECS, Server, running
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of a server side by side: pytest groups by the index of a parameter, which differs by test."""

    def order(item: pytest.Item) -> int:
        callspec = getattr(item, "callspec", None)
        spec = callspec.params.get("server") if callspec else None
        return SPECS.index(spec) if spec in SPECS else -1

    items.sort(key=order)
