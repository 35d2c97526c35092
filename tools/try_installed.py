"""Tries an installed distribution: the five lines of the README, and the command line.

python -I tools/try_installed.py pure|compiled
"""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from awx_ratelimit import Limiter, MemoryBackend, RateLimitMiddleware

app = FastAPI()
app.add_middleware(RateLimitMiddleware, keys={"awx_example_key": "starter"})


async def _status(key: str) -> int:
    """The status of one request to the app of the five lines."""
    statuses = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "path": "/openapi.json",
        "raw_path": b"/openapi.json", "query_string": b"", "root_path": "", "scheme": "http",
        "headers": [(b"x-api-key", key.encode())], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip
    await app(scope, receive, send)
    return int(statuses[0])


def main(form: str) -> None:
    """Raise SystemExit unless everything works and the library has this form."""
    statuses = [asyncio.run(_status("awx_example_key")) for _ in range(61)]
    _expect("61 requests of 60 a minute", [statuses.count(200), statuses[-1]], [60, 429])
    _expect("a request without a key", asyncio.run(_status("wrong")), 401)
    _expect("health()", Limiter(MemoryBackend()).health()["compiled"], form == "compiled")
    command = Path(sys.executable).with_name("awx-ratelimit")
    said = subprocess.run([command, "doctor", "memory://"], capture_output=True, text=True, check=True).stdout
    _expect("the form that the doctor names", "not compiled" not in said, form == "compiled")


def _expect(what: str, got: object, expected: object) -> None:
    if got != expected:
        raise SystemExit(f"{what}: expected {expected}, got {got}")


if __name__ == "__main__":
    main(sys.argv[1])
