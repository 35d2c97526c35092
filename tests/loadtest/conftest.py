"""Audits are mostly waiting, so all that the chosen tests want are carried out at once."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from threading import Lock

import pytest
from tests.loadtest.audits import Spec
from tests.loadtest.served import GUNICORN, UVICORN, demo, nginx, python
from tests.redis_servers import running_redis

from awx_ratelimit.loadtest.report import Report

_AT_ONCE = 8
Serve = Callable[..., AbstractContextManager[str]]
_MOVING = {"AWX_TEST_STRATEGY": "moving-window"}
_SERVERS: dict[str, Serve] = {
    "gateways": partial(python, UVICORN, "tests.loadtest.gateways:app"),
    "slowapi": partial(python, UVICORN, "tests.loadtest.peers:slowapi_app"),
    "flask": partial(python, GUNICORN, "tests.loadtest.peers:flask_app"),
    "slowapi-moving": partial(python, UVICORN, "tests.loadtest.peers:slowapi_app", environment=_MOVING),
    "flask-moving": partial(python, GUNICORN, "tests.loadtest.peers:flask_app", environment=_MOVING),
    "nginx": nginx,
    "demo": demo,
    "demo4": partial(demo, workers=4),
}


class Servers:
    """Each is started when it is first wanted."""

    def __init__(self, stack: ExitStack, factory: pytest.TempPathFactory) -> None:
        self._stack, self._factory = stack, factory
        self._urls: dict[str, str] = {}
        self._starting = Lock()

    def url(self, name: str) -> str:
        """Where it answers."""
        with self._starting:
            if name not in self._urls:
                self._urls[name] = self._stack.enter_context(self._server(name))
            return self._urls[name]

    def _server(self, name: str) -> AbstractContextManager[str]:
        folder = self._factory.mktemp(name)
        if name != "demo-redis":
            return _SERVERS[name](folder)
        redis = self._stack.enter_context(running_redis(self._factory.mktemp("redis")))
        # The machine is busy with other audits; what is audited is the limit, not the budget of time.
        return demo(folder, {"WALLET_BACKEND": f"{redis.url}?budget_ms=1000"}, workers=4)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """What is audited."""
    with ExitStack() as stack:
        yield Servers(stack, tmp_path_factory)


def _carried_out(spec: Spec, servers: Servers) -> Report:
    return spec.carried_out(servers.url(spec.server))


def _spec(item: pytest.Item) -> Spec | None:
    spec = item.callspec.params.get("spec") if isinstance(item, pytest.Function) and hasattr(item, "callspec") else None
    return spec if isinstance(spec, Spec) else None


@pytest.fixture(scope="session")
def audits(request: pytest.FixtureRequest, servers: Servers) -> Iterator[dict[str, "Future[Report]"]]:
    """What becomes of every audit that a chosen test wants, by its name."""
    found = {id(spec): spec for item in request.session.items if (spec := _spec(item)) is not None}
    wanted = list(found.values())
    # The longest first.
    wanted.sort(key=lambda spec: -len(spec.profiles) - 5 * ("streams" in spec.profiles))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        yield {spec.name: pool.submit(_carried_out, spec, servers) for spec in wanted}


@pytest.fixture(scope="session", autouse=True)
def _begun(request: pytest.FixtureRequest) -> None:
    """They go on while other tests are run."""
    if any(_spec(item) for item in request.session.items):
        request.getfixturevalue("audits")


@pytest.fixture
def report(spec: Spec, audits: dict[str, "Future[Report]"]) -> Report:
    """What the audit of `spec` has found."""
    return audits[spec.name].result()
