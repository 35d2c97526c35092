"""Tries an installed distribution: the five lines of its description, and the command line.

python -I try_installed.py pure|compiled
"""

import asyncio
import re
import subprocess
import sys
from importlib.metadata import metadata
from pathlib import Path
from typing import Any, NamedTuple

from awx_ratelimit import Limiter, MemoryBackend

_POLICY = '"minute";q=60;w=60, "day";q=10000;w=86400, "concurrent";q=5;qu="concurrent-requests"'
_COMMAND = Path(sys.executable).with_name("awx-ratelimit")


class Response(NamedTuple):
    """A response of the app."""

    status: int
    headers: dict[str, str]
    body: bytes


def main(form: str) -> None:
    """Raise SystemExit unless everything works and the library has this form."""
    _try_five_lines(_five_lines()["app"])
    _expect("health()", Limiter(MemoryBackend()).health()["compiled"], form == "compiled")
    _expect("the form that the doctor names", "not compiled" not in _said("doctor", "memory://"), form == "compiled")
    _expect("the commands", {"keys", "plans", "doctor", "loadtest"} - {*_said("--help").split()}, set())


def _five_lines() -> dict[str, Any]:
    """The names that the first Python block of the description defines."""
    description = metadata("awx-ratelimit")["Description"] or str(metadata("awx-ratelimit").get_payload())
    match = re.search(r"```python\n(.*?)```", description, re.DOTALL)
    assert match is not None
    names: dict[str, Any] = {}
    exec(match[1], names)  # noqa: S102  # the description of this package
    return names


def _try_five_lines(app: Any) -> None:
    # Tokens refill meanwhile, so a slow machine admits a few more than 60.
    responses = [asyncio.run(_response(app, "awx_example_key"))]
    while responses[-1].status == 200 and len(responses) < 1000:
        responses.append(asyncio.run(_response(app, "awx_example_key")))
    first, refused = responses[0], responses[-1]
    _expect("60 requests are admitted", len(responses) > 60, True)
    _expect("the first status", first.status, 200)
    _expect("its policy", first.headers.get("ratelimit-policy"), _POLICY)
    _expect("what remains", (first.headers.get("ratelimit") or "").split(";t=")[0], '"minute";r=59')
    _expect("the last status", refused.status, 429)
    _expect("its Retry-After", refused.headers.get("retry-after"), "1")
    _expect("its policy", refused.headers.get("ratelimit-policy"), _POLICY)
    _expect("what remains", (refused.headers.get("ratelimit") or "").split(", ")[0], '"minute";r=0;t=1')
    _expect("its Cache-Control", refused.headers.get("cache-control"), "no-store")
    _expect("its code", b'"code":"rate_limit_exceeded"' in refused.body, True)
    _expect("a request with an unknown key", asyncio.run(_response(app, "wrong")).status, 401)


async def _response(app: Any, key: str) -> Response:
    """The response to a request for the OpenAPI document, the only path that the five lines have."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "path": "/openapi.json",
        "raw_path": b"/openapi.json", "query_string": b"", "root_path": "", "scheme": "http",
        "headers": [(b"x-api-key", key.encode())], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip
    await app(scope, receive, send)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Response(int(sent[0]["status"]), headers, b"".join(message["body"] for message in sent[1:]))


def _said(*arguments: str) -> str:
    """What the command prints."""
    return subprocess.run([_COMMAND, *arguments], capture_output=True, text=True, check=True).stdout


def _expect(what: str, got: object, expected: object) -> None:
    if got != expected:
        raise SystemExit(f"{what}: expected {expected}, got {got}")


if __name__ == "__main__":
    main(sys.argv[1])
