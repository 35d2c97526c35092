"""Several servers with one key store, each in its own process, so that a test can choose one."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.processes import free_port, guarded, stop
from tests.servers.stored import operator_token, token_for

_ROOT = Path(__file__).parents[2]
_START_SECONDS = 40.0


class Process:
    """A server."""

    def __init__(self, folder: Path, number: int, settings: dict[str, str], words: Sequence[str]) -> None:
        self.port = free_port()
        self.log = folder / f"log-{number}.txt"
        self.http = httpx2.Client(base_url=f"http://127.0.0.1:{self.port}", trust_env=False, timeout=30.0)
        app = "tests.management.served_app:app"
        command = [sys.executable, "-m", "uvicorn", app, "--port", str(self.port), *words]
        path = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        with self.log.open("wb") as output:
            self._process: subprocess.Popen[bytes] = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, "PYTHONPATH": path, "AWX_TEST_FOLDER": str(folder), **settings},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._guard = guarded(self._process)

    def wait_until_ready(self) -> None:
        """Wait until the server answers, or fail."""
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until and self._process.poll() is None:
            try:
                if self.http.get("/position").status_code == 200:
                    return
            except httpx2.TransportError:
                time.sleep(0.05)
        pytest.fail(f"the server did not start:\n{self.log.read_text()}")

    def call(self, account: str, method: str, path: str, body: Any = None) -> httpx2.Response:
        """Make a call of the REST API for `account`."""
        headers = {"Authorization": f"Bearer {token_for(account)}"}
        return self.http.request(method, f"/api/v1{path}", json=body, headers=headers)

    def operate(self, method: str, path: str, body: Any = None) -> httpx2.Response:
        """Make a call of the operator's API."""
        headers = {"Authorization": f"Bearer {operator_token()}"}
        return self.http.request(method, f"/api/v1/operator{path}", json=body, headers=headers)

    def status(self, key: str) -> int:
        """The status of a request with `key`."""
        return self.http.get("/plain", headers={"X-API-Key": key}).status_code

    def left_today(self, key: str) -> tuple[int, int]:
        """The requests per day of the key's plan, and how many remain after one more."""
        headers = self.http.get("/plain", headers={"X-API-Key": key}).headers
        lines = (headers["ratelimit-policy"], headers["ratelimit"])
        of_plan, left = (int(re.findall(r'"day";[qr]=(\d+)', line)[0]) for line in lines)
        return of_plan, left

    def per_day(self, key: str) -> int | None:
        """The requests per day of the key's plan; None if the key is refused."""
        answer = self.http.get("/plain", headers={"X-API-Key": key})
        found = re.findall(r'"day";q=(\d+)', answer.headers.get("ratelimit-policy", ""))
        return int(found[0]) if answer.status_code == 200 else None

    def position(self) -> int | None:
        """The number of the last change that the process has polled."""
        answer: int | None = self.http.get("/position").json()
        return answer

    def close(self) -> None:
        """Stop the server."""
        self.http.close()
        stop(self._process, self._guard)


@contextmanager
def processes(
    number: int, folder: Path, settings: dict[str, str], words: Sequence[str] = ("--log-level", "warning")
) -> Iterator[list[Process]]:
    """Start this many servers, and stop them after the block."""
    with ExitStack() as stack:
        started = []
        for index in range(number):
            started.append(Process(folder, index, settings, words))
            stack.callback(started[-1].close)
        for process in started:
            process.wait_until_ready()
        yield started
