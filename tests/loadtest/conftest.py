"""Audits and whole runs mostly wait, so those of all selected tests run concurrently, in the background."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import pytest
from tests.loadtest.audits import AuditCase
from tests.loadtest.served import GUNICORN, UVICORN, demo, nginx, serve_app
from tests.redis_servers import running_redis

from awx_ratelimit.loadtest.report.results import Report

_MAX_CONCURRENT = 8
Serve = Callable[..., AbstractContextManager[str]]
_MOVING = {"AWX_TEST_STRATEGY": "moving-window"}
_SERVERS: dict[str, Serve] = {
    "gateways": partial(serve_app, UVICORN, "tests.loadtest.gateways:app"),
    "slowapi": partial(serve_app, UVICORN, "tests.loadtest.peers:slowapi_app"),
    "flask": partial(serve_app, GUNICORN, "tests.loadtest.peers:flask_app"),
    "slowapi-moving": partial(serve_app, UVICORN, "tests.loadtest.peers:slowapi_app", environment=_MOVING),
    "flask-moving": partial(serve_app, GUNICORN, "tests.loadtest.peers:flask_app", environment=_MOVING),
    "nginx": nginx,
    "demo": demo,
    # docs/audits.md has the verdicts of four processes. Two get the same.
    "demo-processes": partial(demo, workers=2),
}


class Servers:
    """The audited servers. Each starts on first use."""

    def __init__(self, stack: ExitStack, factory: pytest.TempPathFactory) -> None:
        self._stack, self._factory = stack, factory
        self._urls: dict[str, str] = {}
        self._starting = Lock()

    def url(self, name: str) -> str:
        """The URL of a server."""
        with self._starting:
            if name not in self._urls:
                self._urls[name] = self._stack.enter_context(self._server(name))
            return self._urls[name]

    def _server(self, name: str) -> AbstractContextManager[str]:
        folder = self._factory.mktemp(name)
        if name != "demo-redis":
            return _SERVERS[name](folder)
        redis = self._stack.enter_context(running_redis(self._factory.mktemp("redis")))
        # Other audits keep the machine busy. These audits test the limits, not the time-out of the backend.
        return demo(folder, {"WALLET_BACKEND": f"{redis.url}?budget_ms=1000"}, workers=2)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """The audited servers."""
    with ExitStack() as stack:
        yield Servers(stack, tmp_path_factory)


#: A long-running function whose result a test reads as the fixture `outcome`.
Scenario = Callable[[Servers, Path], Any]


def scenarios(*functions: Scenario) -> pytest.MarkDecorator:
    """Run the test once for each function, with the function's result as `outcome`."""
    names = [getattr(one, "__name__", "") or "-".join(map(str, one.args)) for one in functions]  # type: ignore[attr-defined]
    return pytest.mark.parametrize("scenario", functions, ids=names)


def _job(item: pytest.Item) -> AuditCase | Scenario | None:
    """The audit or the scenario of a test, if it has one."""
    params: dict[str, Any] = {}
    if isinstance(item, pytest.Function) and hasattr(item, "callspec"):
        params = item.callspec.params
    job: AuditCase | Scenario | None = params.get("audit_case", params.get("scenario"))
    return job


def _run(job: AuditCase | Scenario, servers: Servers, factory: pytest.TempPathFactory) -> Any:
    if isinstance(job, AuditCase):
        return job.run(servers.url(job.server))
    return job(servers, factory.mktemp("scenario"))


def _duration(job: AuditCase | Scenario) -> int:
    """An estimate of the duration, to compare jobs."""
    return len(job.profiles) + 5 * ("streams" in job.profiles) if isinstance(job, AuditCase) else 5


@pytest.fixture(scope="session")
def outcomes(
    request: pytest.FixtureRequest, servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[int, "Future[Any]"]]:
    """The results of all jobs of the selected tests, by the identity of the job."""
    jobs = {id(job): job for item in request.session.items if (job := _job(item)) is not None}
    longest_first = sorted(jobs.values(), key=lambda job: -_duration(job))
    # Create the folder before several threads do it at once.
    tmp_path_factory.getbasetemp()
    with ThreadPoolExecutor(_MAX_CONCURRENT) as pool:
        yield {id(job): pool.submit(_run, job, servers, tmp_path_factory) for job in longest_first}


@pytest.fixture(scope="session", autouse=True)
def _start_jobs(request: pytest.FixtureRequest) -> None:
    """Start the jobs early, so that they run while other tests do."""
    if any(_job(item) is not None for item in request.session.items):
        request.getfixturevalue("outcomes")


@pytest.fixture
def report(audit_case: AuditCase, outcomes: dict[int, "Future[Any]"]) -> Report:
    """The report of `audit_case`."""
    result: Report = outcomes[id(audit_case)].result()
    return result


@pytest.fixture
def outcome(scenario: Scenario, outcomes: dict[int, "Future[Any]"]) -> Any:
    """The result of `scenario`."""
    return outcomes[id(scenario)].result()
