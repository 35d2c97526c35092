"""A real Prometheus scrapes the demo while its clients use up their limits."""

import re
from pathlib import Path

import pytest
from tests.machine import eventually
from tests.observability.prometheus_server import scraping
from tests.test_examples import DEADLINE_SECONDS, DEMO, printed_until, running


# `make test` scrapes a smaller app, with several workers.
@pytest.mark.full
def test_prometheus_scrapes_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prometheus sees what the demo has allowed, what each limit has refused, and that no lease is left in the end."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with (tmp_path / "printed").open("w+b") as output, running(DEMO, output):
        port = re.findall(r"http://127.0.0.1:(\d+)", printed_until(output, "under uvicorn, http://127.0.0.1:"))[0]
        with scraping(tmp_path, int(port)) as prometheus:
            printed_until(output, "/api/v1/usage")

            def refusing() -> set[str]:
                found = prometheus.queried('awx_ratelimit_refusals_total{outcome="refused"} > 0')
                return {each["metric"]["limit"] for each in found}

            def allowed() -> bool:
                shown = prometheus.values('sum(awx_ratelimit_requests_total{outcome="allowed"})')
                return sum(map(float, shown)) > 100

            assert eventually(allowed, expected=True, seconds=DEADLINE_SECONDS)
            assert eventually(lambda: refusing() >= {"minute", "concurrent"}, expected=True)
            assert eventually(lambda: prometheus.values("sum(awx_ratelimit_active_request_leases)"), ["0"]) == ["0"]
