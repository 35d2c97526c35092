"""Audits are mostly waiting, as are runs of the command, so all that the chosen tests want are carried out at once."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import pytest
from tests.loadtest.audits import Spec
from tests.loadtest.served import GUNICORN, UVICORN, demo, nginx, python
from tests.redis_servers import running_redis

from awx_ratelimit.loadtest.report.results import Report

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


#: What takes a while, and a test reads the outcome of.
Scenario = Callable[[Servers, Path], Any]


def begun(*scenarios: Scenario) -> pytest.MarkDecorator:
    """The test's `outcome` is that of each of these; they are begun when the tests are, all at once."""
    names = [getattr(one, "__name__", "") or "-".join(map(str, one.args)) for one in scenarios]  # type: ignore[attr-defined]
    return pytest.mark.parametrize("scenario", scenarios, ids=names)


def _wanted(item: pytest.Item) -> Spec | Scenario | None:
    given = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    found: Any = given.get("spec", given.get("scenario"))
    wanted: Spec | Scenario | None = found
    return wanted


def _carried_out(what: Spec | Scenario, servers: Servers, factory: pytest.TempPathFactory) -> Any:
    if isinstance(what, Spec):
        return what.carried_out(servers.url(what.server))
    return what(servers, factory.mktemp("scenario"))


def _takes(what: Spec | Scenario) -> int:
    """How long, beside others."""
    return len(what.profiles) + 5 * ("streams" in what.profiles) if isinstance(what, Spec) else 5


@pytest.fixture(scope="session")
def outcomes(
    request: pytest.FixtureRequest, servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[int, "Future[Any]"]]:
    """What becomes of all that the chosen tests want, by its identity."""
    wanted = {id(what): what for item in request.session.items if (what := _wanted(item)) is not None}
    # The longest first.
    in_order = sorted(wanted.values(), key=lambda what: -_takes(what))
    # Made once, before threads would make it twice.
    tmp_path_factory.getbasetemp()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        yield {id(what): pool.submit(_carried_out, what, servers, tmp_path_factory) for what in in_order}


@pytest.fixture(scope="session", autouse=True)
def _begun(request: pytest.FixtureRequest) -> None:
    """They go on while other tests are run."""
    if any(_wanted(item) is not None for item in request.session.items):
        request.getfixturevalue("outcomes")


@pytest.fixture
def report(spec: Spec, outcomes: dict[int, "Future[Any]"]) -> Report:
    """What the audit of `spec` has found."""
    found: Report = outcomes[id(spec)].result()
    return found


@pytest.fixture
def outcome(scenario: Scenario, outcomes: dict[int, "Future[Any]"]) -> Any:
    """What has become of `scenario`."""
    return outcomes[id(scenario)].result()
