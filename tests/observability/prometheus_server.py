"""A real Prometheus that scrapes a server of a test."""

import json
import os
import shutil
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from tests.processes import answering, free_port
from tests.servers.wire import HOST, Connection

_CONFIG = """
global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}
scrape_configs:
  - job_name: app
    static_configs: [{{targets: ["{host}:{port}"]}}]
"""


class Prometheus:
    """A running Prometheus."""

    def __init__(self, port: int) -> None:
        self.url = f"http://{HOST}:{port}"

    def queried(self, expression: str) -> list[Any]:
        """What it answers to a query."""
        query = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(f"{self.url}/api/v1/query?{query}") as response:
            answer = json.load(response)
        assert answer["status"] == "success", answer
        result: list[Any] = answer["data"]["result"]
        return result

    def values(self, expression: str) -> list[str]:
        """The values of a query, as texts."""
        return [each["value"][1] for each in self.queried(expression)]


@contextmanager
def scraping(folder: Path, port: int) -> Iterator[Prometheus]:
    """A Prometheus that scrapes the server at `port` five times a second."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.fail("Prometheus is needed: `make prometheus` installs it")
    (folder / "prometheus.yml").write_text(_CONFIG.format(host=HOST, port=port))
    own_port = free_port()
    command = [
        program, "--config.file=prometheus.yml", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={HOST}:{own_port}",
    ]  # fmt: skip
    with running(folder, command, "/-/ready", own_port, {}):
        yield Prometheus(own_port)


@contextmanager
def running(folder: Path, command: list[str], path: str, port: int, environment: dict[str, str]) -> Iterator[int]:
    """A server that answers at `path`: its process id."""
    log = folder / f"{Path(command[0]).name}.log"

    def answers() -> bool:
        with suppress(OSError), Connection(port, timeout_seconds=1.0) as connection:
            return connection.request("GET", path).status == 200
        return False

    with answering(command, log, answers, 20.0, cwd=folder, env={**os.environ, **environment}) as process:
        yield process.pid
