"""What one API key sends in the demo, over real connections. Every response is counted and checked."""

import asyncio
import json
import re
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Self

import httpx2
from examples.demo_keys import KeyManager, MadeKey
from examples.demo_rows import Row
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

ANSWER_SECONDS = 5.0
Sent = tuple[str, str, Any]
AGENTS: Sent = ("GET", "/v1/agents", None)
QUOTE: Sent = ("GET", "/v1/quote", None)
TRANSFER: Sent = ("POST", "/v1/transfers", {"agent": "agent_atlas", "to": "0x51c0ffee", "amount": "0.01"})
_REVOKED = b'{"code":"api_key_revoked","type":"authentication_error","message":"API key has been revoked."}'
_WHOLE_SECONDS = re.compile(r"[1-9][0-9]*")


class Broken(Exception):
    """A promise was not kept; the text says which."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether a request was admitted. Times are from `time.monotonic`. `wait_seconds` is its Retry-After, else 0.

    `limits` is the header RateLimit.
    """

    sent_at: float
    received_at: float
    wait_seconds: int = 0
    limits: str = ""

    @property
    def admitted(self) -> bool:
        """Whether the request was admitted."""
        return not self.wait_seconds


class Key:
    """An API key in use. Its connections stay open until they are closed, or until the end of `async with`.

    Every method raises Broken for a response that is not in the contract.
    """

    def __init__(self, http: httpx2.AsyncClient, made: MadeKey, key_manager: KeyManager, row: Row) -> None:
        self.row = row
        self._http = http
        self._made = made
        self._key_manager = key_manager
        #: More than one if a key and its successor take turns.
        self._keys = [made.key]
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    async def send(self, request: Sent) -> Answer:
        """Send one request and read its response."""
        method, path, sent = request
        sent_at = self._sent()
        response = await self._http.request(method, path, json=sent, headers=self._headers)
        return self._counted(sent_at, response)

    async def day_left(self) -> int:
        """Send one request and return what its response says is left of the day."""
        method, path, sent = AGENTS
        sent_at = self._sent()
        response = await self._http.request(method, path, json=sent, headers=self._headers)
        self._counted(sent_at, response)
        return int(response.headers["ratelimit"].partition('"day";r=')[2].partition(";")[0])

    async def burst(self, requests: int, at_once: int, request: Sent) -> None:
        """Send that many requests, as fast as possible."""
        left = iter(range(requests))

        async def one_after_another() -> None:
            for _ in left:
                await self.send(request)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(at_once):
                tasks.create_task(one_after_another())

    async def open_report(self, *, chunks: int = 200, pause_ms: int = 1000) -> tuple[Answer, httpx2.Response]:
        """Request a streamed report, by default one that outlasts the demo, and read only its headers."""
        params = {"chunks": chunks, "pause_ms": pause_ms}
        request = self._http.build_request("GET", "/v1/reports/stream", params=params, headers=self._headers)
        sent_at = self._sent()
        response = await self._http.send(request, stream=True)
        self._open.push_async_callback(response.aclose)
        if response.status_code != httpx2.codes.OK:
            await response.aread()
        return self._counted(sent_at, response), response

    async def open_feed(self) -> tuple[Answer, ClientConnection | None]:
        """Open a WebSocket with the feed. The connection is None if it was refused."""
        url = str(self._http.base_url.copy_with(scheme="ws", path="/v1/feed"))
        sent_at = self._sent()
        try:
            feed = await connect(url, additional_headers=self._headers, proxy=None, open_timeout=ANSWER_SECONDS)
        except InvalidStatus as error:
            refused = error.response
            headers = list(refused.headers.raw_items())
            response = httpx2.Response(refused.status_code, headers=headers, content=bytes(refused.body or b""))
            return self._counted(sent_at, response), None
        self._open.push_async_callback(feed.close)
        self.row.admitted += 1
        return Answer(sent_at, time.monotonic()), feed

    async def rotate(self, *, grace_seconds: int) -> None:
        """Use the old key and its successor in turns from now on."""
        successor = await self._key_manager.rotate(self._made.id, grace_seconds=grace_seconds)
        self._keys.append(successor.key)

    async def revoke(self) -> None:
        """Revoke the key."""
        await self._key_manager.revoke(self._made.id)

    async def is_accepted(self) -> bool:
        """Whether the key is accepted: one request on a new connection, which any server process may answer."""
        self._sent()
        headers = {**self._headers, "Connection": "close"}
        response = await self._http.get(AGENTS[1], headers=headers)
        if response.status_code == httpx2.codes.UNAUTHORIZED and response.content == _REVOKED:
            self.row.refused += 1
            return False
        if not response.is_success:
            raise Broken(f"a response was {response.status_code} {response.text[:200]}")
        self.row.admitted += 1
        return True

    @property
    def _headers(self) -> dict[str, str]:
        return {"X-API-Key": self._keys[self.row.sent % len(self._keys)]}

    def _sent(self) -> float:
        self.row.sent += 1
        return time.monotonic()

    def _counted(self, sent_at: float, response: httpx2.Response) -> Answer:
        received_at = time.monotonic()
        limits = response.headers.get("ratelimit", "")
        if response.is_success:
            _require_policy(response)
            self.row.admitted += 1
            return Answer(sent_at, received_at, limits=limits)
        wait_seconds = _promised_seconds(response)
        self.row.refused += 1
        return Answer(sent_at, received_at, wait_seconds, limits)


def _promised_seconds(response: httpx2.Response) -> int:
    """The Retry-After of a 429. Raises Broken unless the 429 equals the contract, byte by byte."""
    if response.status_code != httpx2.codes.TOO_MANY_REQUESTS:
        raise Broken(f"a response was {response.status_code} {response.text[:200]}")
    wait = response.headers.get("retry-after", "nothing")
    if not _WHOLE_SECONDS.fullmatch(wait):
        raise Broken(f"a 429 says Retry-After: {wait}; expected whole seconds")
    message = f"Rate limit exceeded. Retry after {wait} second{'' if wait == '1' else 's'}."
    body = {"code": "rate_limit_exceeded", "type": "rate_limit_error", "message": message}
    if response.content != json.dumps(body, separators=(",", ":")).encode():
        raise Broken(f"a 429 with Retry-After: {wait} has the body {response.text[:200]}")
    _require_policy(response)
    return int(wait)


def _require_policy(response: httpx2.Response) -> None:
    for name in ("ratelimit-policy", "ratelimit"):
        if name not in response.headers:
            raise Broken(f"a response {response.status_code} lacks the header {name}")


async def sleep_until(moment: float) -> None:
    """Sleep until `moment` of `time.monotonic`."""
    await asyncio.sleep(max(0.0, moment - time.monotonic()))
