"""A store that is down, hangs or is locked, behind a gate and the REST API: 503 in time, and cached keys work."""

import asyncio
import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.machine import eventually, timed
from tests.management.conftest import AUDIENCE, ISSUER, SECRET
from tests.postgres_servers import Postgres

from awx_ratelimit import AsyncGate, AsyncLimiter, MemoryBackend, Plan, PlanTable, Request, StoredKeys
from awx_ratelimit.adapters.asgi import AsgiApp
from awx_ratelimit.errors import KeyStoreUnavailable
from awx_ratelimit.keys import KeyService, KeyStore, KeyVerifier
from awx_ratelimit.management import AccessTokens, ManagementApi

PLANS = PlanTable([Plan.of("starter", per_minute=100_000)], default="starter")
BUDGET_MS, ANSWER_S = 300, 0.5


class GateAndApi:
    """A gate and the REST API over one store, called on one event loop."""

    def __init__(self, address: str | Path, timeout_ms: int) -> None:
        # A busy machine may take longer for the preparations than the store under test waits.
        with closing(KeyStore.open(address)) as patient:
            service = KeyService(patient)
            service.accounts.create("acme")
            self.known, *self.unseen = (service.create("acme", "n").secret.reveal() for _ in range(30))
        self.store = store = KeyStore.open(address, timeout_ms=timeout_ms)
        self.service = KeyService(store)
        self.verifier = KeyVerifier(store, budget_ms=BUDGET_MS)
        limiter = AsyncLimiter(MemoryBackend())
        tokens = AccessTokens(SECRET, algorithms=["HS256"], issuer=ISSUER, audience=AUDIENCE)
        creations = Plan.of("creations", per_minute=100_000)
        api = ManagementApi(self.service, tokens, limiter=limiter, plans=PLANS, creations=creations)
        self._gate = AsyncGate(limiter, plans=PLANS, identify=StoredKeys(self.verifier, threads=4))
        self._app = AsgiApp(api, answer_timeout_s=ANSWER_S, threads=2)
        # On a busy machine the first connection may take longer than the budget.
        assert eventually(self._is_known, expected=True)

    def _is_known(self) -> bool:
        with suppress(KeyStoreUnavailable):
            self.verifier.verify(self.known.encode())
            return True
        return False

    async def status(self, key: str) -> tuple[int, str]:
        """The status and code of a request with this key."""
        request = Request("GET", "/", "192.0.2.1", lambda name: [key.encode()] if name == b"x-api-key" else [])
        reply = (await self._gate.admit(request)).reply
        return (200, "") if reply is None else (reply.status, json.loads(reply.body)["code"])

    async def call(self, method: str = "POST") -> tuple[int, str]:
        """The status of a call of the REST API."""
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": b'{"name":"n"}'}

        async def send(message: Any) -> None:
            sent.append(message)

        lines = [(b"authorization", f"Bearer {token()}".encode()), (b"content-type", b"application/json")]
        scope = {"type": "http", "method": method, "path": "/api/v1/api-keys", "headers": lines, "client": None}
        await self._app(scope, receive, send)
        return sent[0]["status"], json.loads(sent[1]["body"]).get("code", "")

    def responses(self) -> "Outage":
        """Send 28 uncached keys, and meanwhile a cached one and calls of the API."""

        async def ask() -> Outage:
            began_s = time.monotonic()
            unseen = [asyncio.create_task(self.status(key)) for key in self.unseen[1:]]
            calls = [asyncio.create_task(self.call(method)) for method in ("GET", "POST") * 3]
            await asyncio.sleep(0)
            known_s = time.monotonic()
            known = [await self.status(self.known) for _ in range(20)]
            known_s = time.monotonic() - known_s
            statuses = set(await asyncio.gather(*unseen))
            unseen_s = time.monotonic() - began_s
            calls_ended = set(await asyncio.gather(*calls))
            return Outage((set(known), statuses, calls_ended), known_s, unseen_s)

        with timed() as watch:
            outage = asyncio.run(ask())
        return outage._replace(max_known_s=watch.limit(0.2), max_unseen_s=watch.limit(2.0))

    def close(self) -> None:
        self.verifier.close()
        self.store.close()


class Outage(NamedTuple):
    """The responses during an outage, how long they took, and how long they may take on this machine."""

    answers: tuple[set[Any], set[Any], set[Any]]
    known_s: float
    unseen_s: float
    max_known_s: float = 0.0
    max_unseen_s: float = 0.0


def token() -> str:
    """A token of the tests' issuer, at the machine's time."""
    import jwt

    return jwt.encode({"iss": ISSUER, "aud": AUDIENCE, "sub": "acme", "exp": int(time.time()) + 600}, SECRET)


UNAVAILABLE = (503, "key_store_unavailable")
EXPECTED = ({(200, "")}, {UNAVAILABLE}, {UNAVAILABLE})


@pytest.fixture
def postgresql(postgres: Postgres) -> Iterator[GateAndApi]:
    served = GateAndApi(postgres.emptied_store(), timeout_ms=500)
    yield served
    served.close()


def recovered(served: GateAndApi) -> list[tuple[int, str]]:
    """The responses to an uncached key and to a creation, as soon as the store responds again."""
    status = eventually(lambda: asyncio.run(served.status(served.unseen[0])), (200, ""), 10)
    # A busy machine may not create a key in time at once.
    return [status, eventually(lambda: asyncio.run(served.call()), (201, ""))]


def test_stopped_database(postgres: Postgres, postgresql: GateAndApi) -> None:
    """Cached keys are accepted without delay, all others get a 503 in time; then all are accepted again."""
    postgres.stop()
    try:
        outage = postgresql.responses()
    finally:
        postgres.start()

    assert outage.answers == EXPECTED
    assert outage.known_s < outage.max_known_s
    assert outage.unseen_s < outage.max_unseen_s
    assert recovered(postgresql) == [(200, ""), (201, "")]


def test_hanging_database(postgres: Postgres, postgresql: GateAndApi) -> None:
    """A database that never responds delays no request beyond the budget."""
    with postgres.hanging():
        outage = postgresql.responses()

    assert outage.answers == EXPECTED
    assert outage.known_s < outage.max_known_s
    assert outage.unseen_s < outage.max_unseen_s
    assert recovered(postgresql) == [(200, ""), (201, "")]


def test_locked_file(tmp_path: Path) -> None:
    """A file that another process has locked delays no request beyond the budget."""
    path = tmp_path / "keys.db"
    served = GateAndApi(path, timeout_ms=100)
    served.verifier.write_uses()
    served.verifier._threads.poller.stop(1)
    served.store.close()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    outage = served.responses()
    other.close()
    back = recovered(served)
    served.close()

    assert outage.answers == EXPECTED
    assert outage.known_s < outage.max_known_s
    assert outage.unseen_s < outage.max_unseen_s
    assert back == [(200, ""), (201, "")]
