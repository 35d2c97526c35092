"""Throughput under uvicorn and wrk, compared with a control that adds the same two headers by hand.

Run it with ``python -m benchmarks.bench_servers``. The two servers run at the same time and are loaded in turn, several
times, so that a slow moment of the machine affects both. wrk counts responses other than 2xx. The best rounds are
compared.
"""

import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from awx_ratelimit import AsyncGate, AsyncLimiter, Concurrency, MemoryBackend, Plan, PlanTable, Rate, Rule, StaticKeys
from awx_ratelimit.adapters.starlette import RateLimitMiddleware

KEY = "awx_bench_key_0123456789"
PLAN = Plan("bench", (Rate("minute", 10**8, 60_000), Rate("day", 10**8, 86_400_000)), Concurrency(1_000))
TARGET = 0.95
ROUNDS = 4
SECONDS = 3


async def _page(_: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


class _ByHand:
    """The control: a middleware that adds two headers of the same length and decides nothing."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"].append(
                    (b"ratelimit-policy", b'"minute";q=100000000;w=60, "day";q=100000000;w=86400, "concurrent";q=1000')
                )
                message["headers"].append(
                    (b"ratelimit", b'"minute";r=99999999;t=60, "day";r=99999999;t=86400, "concurrent";r=999')
                )
            await send(message)

        await self.app(scope, receive, with_headers)


def _starlette() -> Starlette:
    return Starlette(routes=[Route("/v1/agents", _page)])


def control() -> Any:
    """Two headers by hand."""
    return _ByHand(_starlette())


def limited() -> Any:
    """Key, rules, one decision of two rates and a slot, headers, the slot given back."""
    gate = AsyncGate(
        AsyncLimiter(MemoryBackend()),
        plans=PlanTable([PLAN], default="bench"),
        identify=StaticKeys({KEY: "bench"}),
        rules=[Rule("/health", exempt=True), Rule("/v1/transfers", methods=["POST"], cost=5)],
    )
    return RateLimitMiddleware(_starlette(), gate=gate)


@contextmanager
def _served(factory: str) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    app = f"benchmarks.bench_servers:{factory}"
    command = [sys.executable, "-m", "uvicorn", "--factory", app, "--port", str(port), "--no-access-log"]
    server = subprocess.Popen([*command, "--log-level", "error"])
    try:
        url = f"http://127.0.0.1:{port}/v1/agents"
        _wait_for(url, server)
        yield url
    finally:
        server.terminate()
        server.wait(10)


def _wait_for(url: str, server: "subprocess.Popen[bytes]") -> None:
    for _ in range(200):
        if server.poll() is not None:
            raise SystemExit(f"the server ended with status {server.returncode}")
        try:
            urllib.request.urlopen(urllib.request.Request(url, headers={"X-API-Key": KEY}), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit("the server did not answer within 10 seconds")


def _requests_a_second(url: str) -> float:
    command = ["wrk", "-t1", "-c16", f"-d{SECONDS}s", "-H", f"X-API-Key: {KEY}", url]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in output:
        raise SystemExit(f"not every request was let in:\n{output}")
    return float(re.findall(r"Requests/sec:\s+([\d.]+)", output)[0])


def main() -> None:
    """Print the ratio of the best rounds."""
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is needed: install Debian's package of that name")
    with _served("control") as bare, _served("limited") as ours:
        rounds = [(_requests_a_second(bare), _requests_a_second(ours)) for _ in range(ROUNDS)]
    best_bare, best_ours = (max(side) for side in zip(*rounds, strict=True))
    ratio = best_ours / best_bare
    met = "met" if ratio >= TARGET else "NOT met"
    print("\n## Under uvicorn and wrk\n")
    print(f"{best_ours:,.0f} of {best_bare:,.0f} requests a second: {ratio:.2f} of the control, target {TARGET}: {met}")


if __name__ == "__main__":
    main()
