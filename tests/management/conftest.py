"""The REST API over a store on each database, called without a server. Tests sign the tokens themselves."""

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jwt
import pytest
from tests.keys.conftest import clock, database, service, shared_folder, sqlite_database, store, stores

from awx_ratelimit import Limiter, MemoryBackend, Plan, PlanTable, Request
from awx_ratelimit.http.message import FullRequest
from awx_ratelimit.keys import KeyService
from awx_ratelimit.management import AccessTokens, ManagementApi, OperatorApi, OperatorTokens
from awx_ratelimit.testing import ManualClock

SECRET = "a secret of the tests, which has at least sixty-four bytes in all, and so is long enough"
ISSUER = "https://login.example.com"
AUDIENCE = "wallet-api"
OPERATORS = "wallet-operators"
JSON = [(b"content-type", b"application/json")]
PLANS = PlanTable(
    (Plan.of("starter", per_minute=60, per_day=10_000, concurrent=5), Plan.of("growth", per_minute=300)),
    default="starter",
)
__all__ = ["clock", "database", "service", "shared_folder", "sqlite_database", "store", "stores"]
Lines = Sequence[tuple[bytes, bytes]]


class Response(NamedTuple):
    """A response of the API."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of an error, whose body has exactly the three keys of the contract."""
        body = self.json
        assert list(body) == ["code", "type", "message"], body
        return str(body["code"])


def claims(clock: ManualClock, **more: Any) -> dict[str, Any]:
    """The claims of a valid token; None removes a claim."""
    now_s = clock.now_ms() // 1000
    said = {"iss": ISSUER, "aud": AUDIENCE, "sub": "acme", "iat": now_s, "exp": now_s + 600, **more}
    return {name: value for name, value in said.items() if value is not None}


def operator_claims(clock: ManualClock, **more: Any) -> dict[str, Any]:
    """The claims of a valid operator's token; None removes a claim."""
    return claims(clock, **{"aud": OPERATORS, "sub": "ada", "scope": "openid awx:operator", **more})


def signed(claims: dict[str, Any], key: Any = SECRET, algorithm: str = "HS256", **header: Any) -> str:
    """A signed token."""
    return jwt.encode(claims, key, algorithm=algorithm, headers=header)


def request_of(method: str, path: str, headers: Lines) -> Request:
    """A request with these header lines."""
    return Request(method, path, "192.0.2.1", lambda name: [value for key, value in headers if key == name])


class Client:
    """A client with a token."""

    def __init__(self, api: ManagementApi | OperatorApi, token: str) -> None:
        self._api = api
        self.headers = [(b"authorization", f"Bearer {token}".encode())]

    def __call__(
        self, method: str, path: str, body: object = None, *, query: str = "", headers: Lines = JSON
    ) -> Response:
        """Make a call; a `body` that is not bytes is sent as JSON."""
        sent = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        request = request_of(method, f"/api/v1{path}", [*self.headers, *headers])
        reply = self._api(FullRequest(request, query.encode(), sent))
        assert len(dict(reply.headers)) == len(reply.headers)
        return Response(reply.status, dict(reply.headers), reply.body)


@pytest.fixture
def tokens(clock: ManualClock) -> AccessTokens:
    """The tokens of one issuer, signed with one secret."""
    return AccessTokens(SECRET, algorithms=["HS256"], issuer=ISSUER, audience=AUDIENCE, clock=clock)


@pytest.fixture
def limiter(clock: ManualClock) -> Limiter:
    """The limiter of the gate and of the API."""
    return Limiter(MemoryBackend(clock=clock))


@pytest.fixture
def api(service: KeyService, tokens: AccessTokens, limiter: Limiter) -> ManagementApi:
    """The API over the store."""
    return ManagementApi(service, tokens, limiter=limiter, plans=PLANS)


@pytest.fixture
def operator_tokens(clock: ManualClock) -> OperatorTokens:
    """The tokens of the operators, of the same issuer."""
    return OperatorTokens(SECRET, algorithms=["HS256"], issuer=ISSUER, audience=OPERATORS, clock=clock)


@pytest.fixture
def operator(service: KeyService, operator_tokens: OperatorTokens, limiter: Limiter, clock: ManualClock) -> Client:
    """The client of the operator ada."""
    api = OperatorApi(service, operator_tokens, limiter=limiter, plans=PLANS)
    return Client(api, signed(operator_claims(clock)))


@pytest.fixture
def client_of(api: ManagementApi, clock: ManualClock) -> Callable[[str], Client]:
    """A function that creates clients of accounts."""
    return lambda account: Client(api, signed(claims(clock, sub=account)))


@pytest.fixture
def client(client_of: Callable[[str], Client]) -> Client:
    """The client of the account acme."""
    return client_of("acme")
