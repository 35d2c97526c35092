"""Pictures of the demo: its terminal, and what Prometheus draws of its traffic."""

import json
import math
import re
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from playwright.sync_api import Browser
from tests.browser.pictures.terminal import Screen, picture, running_in_terminal
from tests.observability.prometheus_server import scraping

ROOT = Path(__file__).parents[3]
DASHBOARD = ROOT / "src/awx_ratelimit/observability/grafana_dashboard.json"
DEMO_SECONDS, TRAFFIC_SECONDS = 120.0, 140.0
#: The panels of the dashboard that are drawn, over two minutes.
PANELS = ("Requests by outcome", "Refusals by limit")
VARIABLES = {'{plan=~"$plan"}': "", 'plan=~"$plan", ': "", "$__rate_interval": "15s"}
#: By the plan of a key its burst, which is used up first, and then requests per second on average. In the busy half of
#: a period they are more than the plan allows.
DEMAND = {"starter": (60, 1.6), "growth": (300, 7.0), "enterprise": (120, 13.0)}
PERIOD_SECONDS = 40.0


def take(browser: Browser, folder: Path) -> None:
    """Run the demo, send more traffic to it, and take the pictures."""
    command = [sys.executable, "examples/demo.py"]
    with TemporaryDirectory(prefix="awx-pictures-") as place, running_in_terminal(command, ROOT) as demo:
        port = int(re.findall(r"http://127.0.0.1:(\d+)", demo.read_until("Served by", DEMO_SECONDS))[0])
        with scraping(Path(place), port) as prometheus:
            output = demo.read_until("/api/v1/usage -H", DEMO_SECONDS)
            screen = Screen()
            screen.feed(output)
            shown = screen.text().partition("The server keeps running")[0].strip("\n")
            (folder / "demo.png").write_bytes(picture(browser, f"$ make demo\n\n{shown}"))
            _send_traffic(f"http://127.0.0.1:{port}/v1/agents", dict(zip(DEMAND, _keys(output), strict=True)))
            (folder / "prometheus.png").write_bytes(_graphs(browser, prometheus.url))


def _keys(output: str) -> list[str]:
    """The keys that the demo prints, one for each plan."""
    return list(dict.fromkeys(re.findall(r"awx_[0-9A-Za-z]{38}", output)))


def _send_traffic(url: str, keys: dict[str, str]) -> None:
    threads = [threading.Thread(target=_send, args=(url, key, *DEMAND[plan])) for plan, key in keys.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _send(url: str, key: str, burst: int, demand: float) -> None:
    request = urllib.request.Request(url, headers={"X-API-Key": key})
    begin = time.monotonic()
    for number in count():
        passed = time.monotonic() - begin
        if passed > TRAFFIC_SECONDS:
            return
        try:
            urllib.request.urlopen(request).close()
        except urllib.error.HTTPError as refused:
            refused.close()
        if number >= burst:
            time.sleep(1 / (demand * (1 + 0.6 * math.sin(passed / PERIOD_SECONDS * 2 * math.pi))))


def _graphs(browser: Browser, url: str) -> bytes:
    """The page of Prometheus with the queries of the dashboard's panels."""
    fields: dict[str, Any] = {}
    for number, query in enumerate(queries()):
        graph = {"expr": query, "tab": 0, "stacked": 0, "range_input": "2m"}
        fields |= {f"g{number}.{name}": value for name, value in graph.items()}
    page = browser.new_page(viewport={"width": 820, "height": 900})
    page.goto(f"{url}/graph?{urllib.parse.urlencode(fields)}")
    page.wait_for_load_state("networkidle")
    page.locator(".rickshaw_graph svg, canvas").nth(len(PANELS) - 1).wait_for()
    taken = page.screenshot(full_page=True)
    page.close()
    return taken


def queries() -> list[str]:
    """The queries of the panels."""
    panels = {panel["title"]: panel for panel in json.loads(DASHBOARD.read_text())["panels"]}
    queries = [panels[title]["targets"][0]["expr"] for title in PANELS]
    for variable, value in VARIABLES.items():
        queries = [query.replace(variable, value) for query in queries]
    return queries
