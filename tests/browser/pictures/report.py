"""A picture of the load tester's report, of a run against the wallet API."""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import Browser
from tests.observability.prometheus_server import running
from tests.processes import free_port
from tests.servers.wire import HOST

ROOT = Path(__file__).parents[3]
KEYS = ("awx_audited_1", "awx_audited_2")
PROFILES = "steady,burst,wait,refusals,streams,websockets,isolation"


def take(browser: Browser, folder: Path) -> None:
    """Audit the wallet API, and take a picture of the report."""
    with TemporaryDirectory(prefix="awx-pictures-") as place:
        report = Path(place, "report.html")
        _audit(Path(place), report)
        page = browser.new_page(viewport={"width": 1000, "height": 1250})
        page.goto(report.as_uri())
        page.screenshot(path=folder / "load-test.png")
        page.close()


def _audit(place: Path, report: Path) -> None:
    """The commands of docs/load-testing.md."""
    (place / "keys.txt").write_text("\n".join(KEYS))
    port = free_port()
    server = [sys.executable, "-m", "uvicorn", "examples.wallet_api:app", "--port", str(port)]
    environment = {"WALLET_API_KEYS": ",".join(f"{key}=enterprise" for key in KEYS), "PYTHONPATH": str(ROOT)}
    with running(place, server, "/health", port, environment):
        command = [
            *(str(Path(sys.executable).with_name("awx-ratelimit")), "loadtest", f"http://{HOST}:{port}"),
            *("--plans", str(ROOT / "examples/plans.toml"), "--plan", "enterprise", "--keys", "keys.txt"),
            *("--path", "/v1/agents", "--stream-path", "/v1/reports/stream?chunks=10&pause_ms=200"),
            *("--websocket-path", "/v1/feed", "--profiles", PROFILES, "--html", str(report), "--quiet"),
        ]
        subprocess.run(command, cwd=place, check=True, timeout=600)
