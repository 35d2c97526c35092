"""Metrics of a server with several workers, read by a real Prometheus."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.docs.pages import blocks, text_of
from tests.machine import eventually
from tests.observability.metered_app import KEY
from tests.observability.prometheus_server import Prometheus, running, scraping
from tests.processes import free_port
from tests.servers.wire import HOST, Connection

from awx_ratelimit.observability.families import FAMILIES
from awx_ratelimit.observability.limit_metrics import COUNTERS, GAUGES

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "src/awx_ratelimit/observability/grafana_dashboard.json"
WORKERS = 2


class Served:
    """An app with several workers, and the Prometheus that scrapes it."""

    def __init__(self, port: int, prometheus: Prometheus, master: int) -> None:
        self._port = port
        self._master = master
        self.prometheus = prometheus
        self.requests = 0

    def send(self, number: int) -> None:
        """Send requests, each on a new connection."""
        for _ in range(number):
            with Connection(self._port) as connection:
                assert connection.request("GET", "/", KEY).status == 200
            self.requests += 1

    def scraped(self) -> int:
        """The number of allowed requests at /metrics."""
        with Connection(self._port) as connection:
            text = connection.request("GET", "/metrics").body.decode()
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return sum(
            int(sample.value)
            for sample in samples
            if sample.name == "awx_ratelimit_requests_total" and sample.labels["outcome"] == "allowed"
        )

    def workers(self) -> list[int]:
        """The process ids of the workers."""
        children = Path(f"/proc/{self._master}/task/{self._master}/children").read_text().split()
        return [int(child) for child in children]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Gunicorn with several workers under load, and a Prometheus that scrapes it."""
    folder, port = tmp_path_factory.mktemp("metrics"), free_port()
    (folder / "shared").mkdir()
    gunicorn = [
        sys.executable, "-m", "gunicorn", "tests.observability.metered_app:create_app()", "--bind", f"{HOST}:{port}",
        "--workers", str(WORKERS), "--graceful-timeout", "1",
    ]  # fmt: skip
    environment = {"PYTHONPATH": str(ROOT), "PROMETHEUS_MULTIPROC_DIR": str(folder / "shared")}
    with ExitStack() as stack:
        master = stack.enter_context(running(folder, gunicorn, "/metrics", port, environment))
        yield Served(port, stack.enter_context(scraping(folder, port)), master)


def test_sum_of_several_workers(served: Served) -> None:
    """Whichever worker is scraped, it shows the requests of all."""
    served.send(40)

    assert [eventually(served.scraped, served.requests) for _ in range(10)] == [served.requests] * 10


def test_killed_worker(served: Served) -> None:
    """What a killed worker had published stays, and its leases do not."""
    served.send(20)
    eventually(served.scraped, served.requests)
    victim = served.workers()[0]
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: len(served.workers()) == WORKERS and victim not in served.workers(), expected=True)
    served.send(20)

    assert eventually(served.scraped, served.requests) == served.requests
    assert eventually(lambda: served.prometheus.values("sum(awx_ratelimit_active_request_leases)"), ["0"]) == ["0"]


def _published() -> set[str]:
    """The names of all series, as Prometheus has them."""
    published = {f"{family.name.replace('.', '_')}_total" for family in COUNTERS}
    published |= {
        f"{family.name.replace('.', '_')}_seconds_bucket" for family in FAMILIES if family.kind == "histogram"
    }
    published |= {family.name.replace(".", "_") for family in GAUGES}
    return published


def _expressions() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def test_dashboard(served: Served) -> None:
    """Prometheus understands each query of the dashboard, and each metric in them exists."""
    published = _published()
    for expression in _expressions():
        filled = expression.replace("$__rate_interval", "10s").replace("$plan", ".*")
        served.prometheus.queried(filled)
        assert set(re.findall(r"awx_ratelimit_\w+", filled)) <= published, expression


def test_requests_reach_the_dashboard(served: Served) -> None:
    """The first panel shows the rate of allowed requests."""

    def allowed() -> bool:
        served.send(5)
        shown = served.prometheus.values(
            'sum by (outcome) (rate(awx_ratelimit_requests_total{outcome="allowed"}[10s]))'
        )
        return any(float(rate) > 0 for rate in shown)

    assert eventually(allowed, expected=True)


def test_alerts(tmp_path: Path) -> None:
    """Prometheus accepts the alerts of the documentation, and their metrics exist."""
    (rules,) = blocks("docs/metrics.md", "yaml")
    (tmp_path / "rules.yml").write_text(rules)
    checked = subprocess.run(
        ["promtool", "check", "rules", "rules.yml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert checked.returncode == 0, checked.stderr
    assert set(re.findall(r"awx_ratelimit_\w+", rules)) <= _published()


def test_documented_metrics() -> None:
    """The page on metrics names every metric, with its kind and labels, and no other."""
    rows = re.findall(r"\| `(awx_ratelimit\.[\w.]+)` \| (\w+) \| ([\w, ]*)\|", text_of("docs/metrics.md"))

    assert [(name, kind, labels.strip()) for name, kind, labels in rows] == [
        (family.name, family.kind, ", ".join(family.labels)) for family in FAMILIES
    ]
