"""What PrometheusMetrics publishes, read back from its registry."""

import gc
import os
import signal
import threading
from collections import defaultdict
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from tests.machine import eventually

from awx_ratelimit import (
    BackendUnavailable,
    Budget,
    Caller,
    Gate,
    Limiter,
    MemoryBackend,
    Plan,
    PlanTable,
    Rate,
    RateLimitMiddleware,
    Rule,
    StaticKeys,
)
from awx_ratelimit.adapters.starlette import limit
from awx_ratelimit.adapters.wsgi.middleware import Slot
from awx_ratelimit.backends.resilience.guarded_sync import GuardedBackend
from awx_ratelimit.core import budget
from awx_ratelimit.http.message import Request
from awx_ratelimit.observability import decision_counts, families, limit_metrics, prometheus_exporter
from awx_ratelimit.observability.prometheus import PrometheusMetrics, metrics_app, wsgi_metrics_app
from awx_ratelimit.testing import ManualClock

_DIRECTIONS = ("more", "less", "same")
STARTER = Plan.of("starter", per_minute=2, concurrent=3)
SHADOWED = Plan("tried", (Rate("minute", 1, 60_000, shadow=True),))
ACCOUNT = Plan.of("acme", per_day=1)


class Broken(MemoryBackend):
    """A backend that never answers."""

    def acquire(self, subject: str, plan: Plan, cost: int) -> Any:
        raise BackendUnavailable("it is down")

    def acquire_joint(self, claim: Any) -> Any:
        raise BackendUnavailable("no server")


class Published:
    """A limiter with metrics, and their values."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.metrics = PrometheusMetrics(self.registry)
        self.limiter = Limiter(MemoryBackend(clock=ManualClock()), listeners=[self.metrics])

    def of(self, name: str, **labels: str) -> float | None:
        """The value of ``awx_ratelimit_<name>``; None if there is no such series."""
        return self.registry.get_sample_value(f"awx_ratelimit_{name}", labels)


@pytest.fixture
def published() -> Published:
    return Published()


def test_outcomes_of_requests(published: Published) -> None:
    """Each claim is counted once, under its plan and outcome."""
    for _ in range(5):
        published.limiter.acquire("key_1", STARTER)
        published.limiter.acquire("key_2", SHADOWED)

    assert published.of("requests_total", plan="starter", outcome="allowed") == 2
    assert published.of("requests_total", plan="starter", outcome="refused") == 3
    assert published.of("requests_total", plan="tried", outcome="allowed") == 1
    assert published.of("requests_total", plan="tried", outcome="shadow") == 4


def test_refusals_by_limit(published: Published) -> None:
    """Every limit that refused is counted, with its scope, and those in shadow apart."""
    also = [Budget("acme", ACCOUNT, "account")]
    for _ in range(4):
        published.limiter.acquire("key_1", STARTER, also=also)
    published.limiter.acquire("key_2", SHADOWED)
    published.limiter.acquire("key_2", SHADOWED)

    refused = {"plan": "starter", "outcome": "refused"}
    assert published.of("refusals_total", scope="account", limit="day", **refused) == 3
    assert published.of("refusals_total", scope="", limit="minute", **refused) is None
    assert published.of("refusals_total", plan="tried", scope="", limit="minute", outcome="shadow") == 1


def test_open_leases(published: Published) -> None:
    """A lease counts until its first release, and its duration once."""
    decisions = [published.limiter.acquire("key_1", STARTER) for _ in range(2)]
    held = published.of("active_request_leases", plan="starter")
    for _ in range(2):
        published.limiter.release(decisions[0])

    assert held == 2
    assert published.of("active_request_leases", plan="starter") == 1
    assert published.of("request_lease_duration_seconds_count", plan="starter") == 1
    assert published.of("request_lease_duration_seconds_bucket", plan="starter", le="0.005") == 1


def test_blocks_release_their_leases(published: Published) -> None:
    """A slot that a block frees does not count any more."""
    with published.limiter.hold("key_1", STARTER):
        pass

    assert published.of("active_request_leases", plan="starter") == 0


def test_settlements(published: Published) -> None:
    """Settlements are counted by their direction; a refund gives back."""
    plan = Plan("tokens", (Rate("minute", 9_000, 60_000), Rate("volume", 9_000, 60_000, measure="tokens")))
    for cost in ({"requests": 1, "tokens": 900}, {"tokens": 30}, 1):
        decision = published.limiter.acquire("key_1", plan, {"requests": 1, "tokens": 80})
        published.limiter.settle(decision, cost)
    published.limiter.refund(published.limiter.acquire("key_1", plan))

    by_direction = [published.of("settlements_total", plan="tokens", direction=name) for name in _DIRECTIONS]
    assert by_direction == [1, 2, 1]


@pytest.mark.parametrize(("status", "direction"), [(200, "less"), (401, "same")])
def test_settlement_by_status(published: Published, status: int, direction: str) -> None:
    """What is charged on a status is charged before the request, and given back after another status."""
    rule = Rule("/login", budget="login", plan=Plan.of("login", per_minute=5), charge_on={401})
    plans = PlanTable([STARTER], default="starter")
    gate = Gate(published.limiter, plans=plans, identify=lambda _: Caller("key_1"), rules=[rule])
    slot = Slot(gate, [], gate.admit(Request("POST", "/login", "192.0.2.1", lambda _: [])).decision)
    slot.note_status(status)
    slot.close()

    counted = {each: published.of("settlements_total", plan="starter", direction=each) for each in _DIRECTIONS}
    assert counted == {each: 1 if each == direction else None for each in _DIRECTIONS}


def test_two_lines() -> None:
    """A listener of the middleware and a mounted app publish the metrics of an app."""
    registry = CollectorRegistry()
    app = Starlette(routes=[Mount("/metrics", metrics_app(registry))])
    app.add_middleware(RateLimitMiddleware, anonymous=STARTER, plans=STARTER, listeners=[PrometheusMetrics(registry)])

    assert 'awx_ratelimit_requests_total{outcome="allowed",plan="starter"} 1.0' in TestClient(app).get("/metrics/").text


def test_settlements_of_a_limited_route() -> None:
    """Only a request that the route refuses is settled, which gives its charge back; an admitted one costs the same."""
    registry, plan = CollectorRegistry(), Plan.of("visitors", per_minute=100)

    async def search(_: Any) -> PlainTextResponse:
        return PlainTextResponse("found")

    app = Starlette(routes=[Route("/search", limit("3/minute")(search))])
    app.add_middleware(RateLimitMiddleware, anonymous=plan, plans=plan, listeners=[PrometheusMetrics(registry)])
    client = TestClient(app)
    assert [client.get("/search").status_code for _ in range(5)] == [200] * 3 + [429] * 2

    counted = [
        registry.get_sample_value("awx_ratelimit_settlements_total", {"plan": "visitors", "direction": direction})
        for direction in _DIRECTIONS
    ]
    assert counted == [None, 2, None]


def test_settlements_without_effect(published: Published) -> None:
    """A second settlement or refund is not counted, nor is that of a refusal, a peek or another limiter's decision."""
    decision = published.limiter.acquire("key_1", STARTER)
    refused = published.limiter.acquire("key_1", STARTER, 2)
    foreign = Limiter(MemoryBackend()).acquire("key_1", STARTER)
    for each in (decision, decision, refused, published.limiter.peek("key_1", STARTER), foreign):
        published.limiter.settle(each, 1)
        published.limiter.refund(each)

    assert published.of("settlements_total", plan="starter", direction="same") == 1
    assert published.of("settlements_total", plan="starter", direction="less") is None


def test_unavailable_backend() -> None:
    """A claim that the backend does not decide is counted as unavailable."""
    registry = CollectorRegistry()
    limiter = Limiter(Broken(), listeners=[PrometheusMetrics(registry)])
    with suppress(BackendUnavailable):
        limiter.acquire("key_1", STARTER)

    labels = {"plan": "starter", "outcome": "unavailable"}
    assert registry.get_sample_value("awx_ratelimit_requests_total", labels) == 1


def test_threads_lose_no_count(published: Published) -> None:
    """Eight threads that decide at once, while others read, are counted exactly."""
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            generate_latest(published.registry)

    def decide() -> None:
        for _ in range(500):
            published.limiter.release(published.limiter.acquire("key_1", STARTER))

    reader, threads = threading.Thread(target=read), [threading.Thread(target=decide) for _ in range(8)]
    for thread in (reader, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    reader.join()

    counts = [published.of("requests_total", plan="starter", outcome=name) for name in ("allowed", "refused")]
    assert counts == [2, 3998]
    assert published.of("active_request_leases", plan="starter") == 0


@pytest.fixture
def few_series(monkeypatch: pytest.MonkeyPatch) -> int:
    """Smaller bounds than the real ones."""
    for module, name in ((decision_counts, "MAX_SERIES"), (limit_metrics, "MAX_SERIES"), (budget, "MAX_CACHED_PLANS")):
        monkeypatch.setattr(module, name, 100)
    return 100


def test_plans_are_bounded(published: Published, few_series: int) -> None:
    """However many plans there are, the series stay bounded, and no claim is lost."""
    for number in range(3 * few_series):
        published.limiter.acquire("key_1", Plan(f"plan_{number}", (Rate(f"r{number}", 1, 60_000),)))

    text = generate_latest(published.registry).decode()
    (family,) = [family for family in text_string_to_metric_families(text) if family.name == "awx_ratelimit_requests"]
    samples = [sample for sample in family.samples if sample.name.endswith("_total")]
    assert len(samples) <= few_series + 1
    assert sum(sample.value for sample in samples) == 3 * few_series


def test_no_subject_is_a_label(published: Published) -> None:
    """Neither a subject nor an address is in the text that Prometheus reads."""
    published.limiter.acquire("key_secret", STARTER, also=[Budget("acct_secret", ACCOUNT, "account")])
    published.limiter.acquire("key_secret", STARTER, also=[Budget("acct_secret", ACCOUNT, "account")])

    assert "secret" not in generate_latest(published.registry).decode()


def test_an_idle_plan_can_be_freed(published: Published, few_series: int) -> None:
    """Metrics keep a bounded number of plans alive."""
    for number in range(5 * few_series):
        published.limiter.acquire("key_1", Plan(f"idle_{number}", (Rate("minute", 1, 60_000),)))
    gc.collect()
    plans = [each for each in gc.get_objects() if type(each) is Plan]

    assert sum(plan.name.startswith("idle_") for plan in plans) < 4 * few_series


def test_second_metrics_in_a_registry() -> None:
    """A registry takes one PrometheusMetrics; the error says what to do."""
    registry = CollectorRegistry()
    PrometheusMetrics(registry)

    with pytest.raises(ValueError, match="give one PrometheusMetrics to all limiters"):
        PrometheusMetrics(registry)


def test_verified_keys(published: Published) -> None:
    """A gate counts accepted keys, and refused ones by the code of their refusal."""
    gate = Gate(published.limiter, plans=PlanTable([STARTER]), identify=StaticKeys({"awx_test_key": "starter"}))
    for sent in ([b"awx_test_key"], [b"awx_test_key"], [b"awx_test_wrong"], []):
        gate.admit(Request("GET", "/", "192.0.2.1", defaultdict(list, {b"x-api-key": sent}).__getitem__))

    assert published.of("key_verifications_total", outcome="accepted") == 2
    assert published.of("key_verifications_total", outcome="invalid_api_key") == 1


def test_claims_that_wait() -> None:
    """A claim that waits is counted while it does, and then with its time; one that need not wait is not."""
    registry, clock, plan = CollectorRegistry(), ManualClock(), Plan.of("queued", per_second=1)
    limiter = Limiter(MemoryBackend(clock=clock), listeners=[PrometheusMetrics(registry)])
    limiter.acquire("key_1", plan, wait_ms=5_000)
    thread = threading.Thread(target=limiter.acquire, args=("key_1", plan), kwargs={"wait_ms": 5_000})
    thread.start()
    assert eventually(lambda: clock.alarms, 1) == 1
    waiting = registry.get_sample_value("awx_ratelimit_queued_requests")
    clock.advance(1_000)
    thread.join()

    labels = {"plan": "queued", "outcome": "allowed"}
    assert waiting == 1
    assert registry.get_sample_value("awx_ratelimit_queued_requests") == 0
    assert registry.get_sample_value("awx_ratelimit_request_time_in_queue_seconds_count", labels) == 1
    assert registry.get_sample_value("awx_ratelimit_request_time_in_queue_seconds_sum", labels) == 1


@pytest.mark.parametrize(("on_outage", "scope", "allowed"), [("local", None, 2), ("open", None, 6), ("open", "x", 6)])
def test_outages(on_outage: Any, scope: str | None, allowed: int) -> None:
    """Decisions of a guard without its backend are counted, as fallback if they are allowed."""
    registry = CollectorRegistry()
    guard = GuardedBackend(Broken(), on_outage=on_outage)
    limiter = Limiter(guard, listeners=[PrometheusMetrics(registry)])
    limiter.report(MemoryBackend().acquire("key_1", STARTER, 1))  # type: ignore[misc]
    for _ in range(6):
        limiter.acquire("key_1", STARTER, scope=scope)

    labels = {"plan": "starter", "outcome": "fallback"}
    assert registry.get_sample_value("awx_ratelimit_requests_total", labels) == allowed
    assert registry.get_sample_value("awx_ratelimit_requests_total", {**labels, "outcome": "allowed"}) == 1
    assert registry.get_sample_value("awx_ratelimit_fallback_decisions_total") == 6
    assert registry.get_sample_value("awx_ratelimit_circuit_breakers_open") == 1
    assert registry.get_sample_value("awx_ratelimit_outages_total") == 1


def test_no_thread(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """If a worker cannot start the thread that publishes, requests go on, and a later one tries again."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    metrics = PrometheusMetrics(CollectorRegistry())
    started = iter([False, True])

    def start() -> None:
        if not next(started):
            raise RuntimeError("no more")

    monkeypatch.setattr(metrics._thread, "start", start)
    limiter = Limiter(MemoryBackend(), listeners=[metrics])

    assert all(limiter.acquire(f"{number}", STARTER) for number in range(3))
    assert next(started, None) is None


def test_fork(published: Published) -> None:
    """A child process starts at zero, and is not held up by a thread of its parent that published during the fork."""
    for _ in range(2):
        published.limiter.release(published.limiter.acquire("key_1", STARTER))
    generate_latest(published.registry)
    published.metrics._metric_of(families.REQUESTS)._lock.acquire()
    pid = os.fork()
    if not pid:
        try:
            signal.alarm(20)
            published.limiter.release(published.limiter.acquire("key_2", STARTER))
            requests = published.of("requests_total", plan="starter", outcome="allowed")
            durations = published.of("request_lease_duration_seconds_count", plan="starter")
            os._exit(0 if (requests, durations) == (1, 1) else 1)
        finally:
            os._exit(2)
    _, status = os.waitpid(pid, 0)

    assert status == 0


def test_scrapes_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two scrapes may remove the leases of a dead worker at the same time."""
    (tmp_path / f"gauge_livesum_{2**22 + 1}.db").touch()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    remove = os.remove

    def remove_after_another(path: str) -> None:
        remove(path)
        remove(path)

    monkeypatch.setattr(os, "remove", remove_after_another)

    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    statuses: list[str] = []
    wsgi_metrics_app()(environ, lambda status, _: statuses.append(status))

    assert statuses == ["200 OK"]
    assert list(tmp_path.iterdir()) == []


def test_scrape_in_an_event_loop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The ASGI app reads the files of all workers in a thread, so that no request waits for a scrape."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    counts = tmp_path / f"counter_{os.getpid()}.db"
    # The module of prometheus_client has no types.
    mapped: Any = MmapedDict
    with closing(mapped(str(counts))) as values:
        values.write_value(mmap_key("sent", "sent_total", [], [], "requests"), 3.0, 0.0)

    assert "sent_total 3.0" in TestClient(metrics_app()).get("/").text


def test_scrape_while_a_worker_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A scrape does not fail for a file that a new worker has only just created."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    (tmp_path / f"counter_{os.getpid()}.db").touch()

    assert TestClient(metrics_app()).get("/").status_code == 200


def test_fork_of_a_worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A worker that forks waits until its thread has published, so that a child finds the files unlocked."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    metrics = PrometheusMetrics(CollectorRegistry())
    publishing, forked = threading.Event(), threading.Event()
    seen = []

    def observe_slowly() -> None:
        publishing.set()
        seen.append(forked.wait(0.2))

    monkeypatch.setattr(metrics, "observe_ended", observe_slowly)
    thread = threading.Thread(target=metrics.publish)
    thread.start()
    publishing.wait(10)
    pid = os.fork()
    if not pid:
        os._exit(0)
    forked.set()
    os.waitpid(pid, 0)
    thread.join()
    metrics.publish()

    assert seen == [False, True]


@pytest.mark.parametrize(
    ("workers", "shared", "options", "warnings"),
    [(4, False, {}, 1), (1, False, {}, 0), (4, True, {}, 0), (4, False, {"warn_of_workers": False}, 0)],
)
def test_several_workers(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    workers: int,
    shared: bool,
    options: dict[str, bool],
    warnings: int,
) -> None:
    """One of several workers that share no folder warns once, at its first limiter, and names the variable to set."""
    monkeypatch.setattr(prometheus_exporter._warning, "is_logged", False)
    monkeypatch.setattr("awx_ratelimit.runtime.server_workers.workers_of_server", lambda _: ("gunicorn", workers))
    if shared:
        monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    metrics = PrometheusMetrics(CollectorRegistry(), **options)
    before = caplog.text.count("PrometheusMetrics")
    for _ in range(2):
        Limiter(MemoryBackend(), listeners=[metrics])

    assert before == 0
    assert caplog.text.count("PrometheusMetrics is per process: with 4 gunicorn workers, each scrape ") == warnings
    assert caplog.text.count("Set PROMETHEUS_MULTIPROC_DIR to an empty folder before the server starts") == warnings
