"""Only operators' tokens work on the operator's API, and they work nowhere else."""

from typing import Any

import pytest
from tests.keys.store_probes import statements
from tests.management.conftest import (
    AUDIENCE,
    ISSUER,
    OPERATORS,
    PLANS,
    SECRET,
    Client,
    claims,
    operator_claims,
    request_of,
    signed,
)

from awx_ratelimit import Limiter
from awx_ratelimit.errors import AccessRefused, InvalidKeyRequest, KeyRefused
from awx_ratelimit.keys import KeyService, KeyStore
from awx_ratelimit.management import AccessTokens, ManagementApi, OperatorApi, OperatorTokens
from awx_ratelimit.management.auth.jwt_subject import JwtSubject
from awx_ratelimit.testing import ManualClock

PATHS = [
    ("GET", "/accounts"),
    ("GET", "/accounts/acme"),
    ("PATCH", "/accounts/acme"),
    ("POST", "/accounts/acme/suspend"),
    ("PUT", "/accounts/acme/override"),
    ("DELETE", "/accounts/acme/override"),
    ("GET", "/audit"),
    ("GET", "/shadow-refusals"),
    ("GET", "/accounts/nobody"),
    ("GET", "/accounts/acme/usage/history"),
    ("GET", "/openapi.json"),
]
#: What is wrong with a token, and the code of the reply.
WRONG: dict[str, dict[str, Any]] = {
    "a customer's": {"aud": AUDIENCE, "scope": None, "sub": "acme"},
    "a customer's with the scope": {"aud": AUDIENCE, "sub": "acme"},
    "no scope": {"scope": None},
    "another scope": {"scope": "openid awx:operators"},
    "a part of a scope": {"scope": "xawx:operator awx:operator:read"},
    "other case": {"scope": "AWX:OPERATOR"},
    "a list of scopes": {"scope": ["awx:operator"]},
    "an object": {"scope": {"awx:operator": True}},
    "another claim": {"scope": None, "scp": "awx:operator", "permissions": ["awx:operator"]},
    "a line break": {"scope": "openid\nawx:operator"},
    "both audiences": {"aud": [OPERATORS, AUDIENCE]},
    "no audience": {"aud": None},
    "an empty audience": {"aud": []},
    "another issuer": {"iss": "https://evil.example.com"},
    "no expiry": {"exp": None},
    "no subject": {"sub": None},
    "a subject that is a number": {"sub": 5},
    "a subject with invisible characters": {"sub": "a\u202eb"},
    "a long subject": {"sub": "a" * 101},
}


@pytest.fixture
def database(sqlite_database: str) -> str:
    """A store in SQLite: tokens are refused before any database is asked."""
    return sqlite_database


@pytest.mark.parametrize("case", WRONG)
def test_refused(operator: Client, clock: ManualClock, store: KeyStore, case: str) -> None:
    """Without the scope and the only audience of operators every call is the same 401, and reads nothing."""
    operator.headers = [(b"authorization", f"Bearer {signed(operator_claims(clock, **WRONG[case]))}".encode())]
    with statements(store) as sent:
        answers = [operator(method, f"/operator{path}") for method, path in PATHS]

    assert {(answer.status, answer.code) for answer in answers} == {(401, "invalid_access_token")}
    assert len({answer.body for answer in answers}) == 1
    assert sent == []


@pytest.mark.parametrize(
    ("claims_of", "key", "algorithm", "code"),
    [
        ({}, "another secret of the tests, which is long enough for HS256 too", "HS256", "invalid_access_token"),
        ({}, SECRET, "HS512", "invalid_access_token"),
        ({}, None, "none", "invalid_access_token"),
        ({"exp": 1, "iat": None}, SECRET, "HS256", "access_token_expired"),
        ({"exp": 9_999_999_999}, SECRET, "HS256", "invalid_access_token"),
    ],
)
def test_signature_and_times(
    operator: Client, clock: ManualClock, claims_of: dict[str, Any], key: Any, algorithm: str, code: str
) -> None:
    """A wrong signature, another algorithm, none, an end that has passed and an endless life are refused."""
    token = signed(operator_claims(clock, **claims_of), key, algorithm)
    operator.headers = [(b"authorization", f"Bearer {token}".encode())]

    assert (operator("GET", "/operator/accounts").status, operator("GET", "/operator/audit").code) == (401, code)


def test_accepted(operator: Client, clock: ManualClock) -> None:
    """A token with the scope among others is accepted, with the audience as a text or as the only one of a list."""
    for more in ({"scope": "awx:operator"}, {"scope": "a awx:operator b"}, {"aud": [OPERATORS]}):
        operator.headers = [(b"authorization", f"Bearer {signed(operator_claims(clock, **more))}".encode())]

        assert operator("GET", "/operator/accounts").status == 200


def test_api_key(operator: Client, service: KeyService) -> None:
    """An API key is a 403 in every header, and no token is a 401."""
    key = service.create("acme", "n").secret.reveal().encode()
    codes = []
    for line in ([(b"authorization", b"Bearer " + key)], [(b"x-api-key", key)], []):
        operator.headers = line
        codes += [operator(method, f"/operator{path}").code for method, path in PATHS]

    assert set(codes[: 2 * len(PATHS)]) == {"access_token_required"}
    assert set(codes[2 * len(PATHS) :]) == {"access_token_missing"}


@pytest.mark.parametrize(
    "more",
    [{}, {"scope": None, "scp": "awx:operator"}, {"scope": None, "scp": ["awx:operator"]}, {"scope": ["awx:operator"]},
     {"scope": " x  awx:operator "}, {"aud": [AUDIENCE, OPERATORS]}],
)  # fmt: skip
def test_operators_token_on_the_customers_api(
    tokens: AccessTokens, service: KeyService, limiter: Limiter, clock: ManualClock, more: dict[str, Any]
) -> None:
    """An operator's token is refused by the customers' API and as a caller of the gate, whatever its audience is."""
    token = signed(operator_claims(clock, **{"aud": AUDIENCE, "sub": "acme", **more}))
    client = Client(ManagementApi(service, tokens, limiter=limiter, plans=PLANS), token)
    answers = [client("GET", "/api-keys"), client("POST", "/api-keys", {"name": "n"}), client("GET", "/usage")]
    with pytest.raises(KeyRefused):
        JwtSubject(tokens)(request_of("GET", "/", client.headers))

    assert {(answer.status, answer.code) for answer in answers} == {(401, "invalid_access_token")}
    assert service.list("acme").total == 0


def test_scope_of_a_customer(client: Client, clock: ManualClock) -> None:
    """Other scopes do not matter on the customers' API."""
    client.headers = [(b"authorization", f"Bearer {signed(claims(clock, scope='openid awx:operators'))}".encode())]

    assert client("GET", "/api-keys").status == 200


@pytest.mark.parametrize("sub", ["operator:ada", " Operator:ada"])
def test_customer_with_the_name_of_an_operator(clock: ManualClock, sub: str) -> None:
    """A customer's token cannot name an actor whom the audit trail would show as an operator."""
    token = signed(claims(clock, sub=sub, account="acme"))
    tokens = AccessTokens(
        SECRET, algorithms=["HS256"], issuer=ISSUER, audience=AUDIENCE, account_claim="account", clock=clock
    )

    with pytest.raises(AccessRefused, match="its claim sub begins with 'operator:', as operators do"):
        tokens.owner_of(token.encode())


def test_customers_tokens_at_construction(service: KeyService, tokens: AccessTokens, limiter: Limiter) -> None:
    """An OperatorApi takes no AccessTokens, and a ManagementApi no OperatorTokens."""
    with pytest.raises(TypeError, match=r"^tokens: expected OperatorTokens, got an AccessTokens; write OperatorApi\("):
        OperatorApi(service, tokens, limiter=limiter, plans=PLANS)  # type: ignore[arg-type]
    operators = OperatorTokens(SECRET, algorithms=["HS256"], issuer=ISSUER, audience=OPERATORS)
    with pytest.raises(TypeError, match=r"^tokens: expected AccessTokens, got "):
        ManagementApi(service, operators, limiter=limiter, plans=PLANS)  # type: ignore[arg-type]


@pytest.mark.parametrize("changed", [{"audience": ""}, {"issuer": ""}, {"algorithms": ["none"]}, {"key": "short"}])
def test_configuration(changed: dict[str, Any]) -> None:
    """The key, the algorithms, the issuer and the audience are explicit, as for customers."""
    given: dict[str, Any] = {"key": SECRET, "algorithms": ["HS256"], "issuer": ISSUER, "audience": OPERATORS}
    with pytest.raises(InvalidKeyRequest):
        OperatorTokens(**given | changed)


def test_reason_in_the_log(operator_tokens: OperatorTokens, clock: ManualClock, caplog: Any) -> None:
    """The log says why a token is refused."""
    token = signed(operator_claims(clock, scope="openid"))
    with pytest.raises(AccessRefused):
        operator_tokens.operator(request_of("GET", "/", [(b"authorization", f"Bearer {token}".encode())]))

    assert "its claim scope has no 'awx:operator'" in caplog.text
