"""The REST API on real servers: a key's lifecycle, invalid tokens, smuggled bodies, clients that disconnect."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.machine import eventually
from tests.servers.harness import ASGI, SPECS, Server, on, on_named
from tests.servers.stored import operator_token, token_for
from tests.servers.wire import CLOSED, Answer, Connection, head

Call = Callable[..., Answer]
INVALID = b'{"code":"invalid_access_token","type":"authentication_error","message":"Access token is invalid."}'
MISSING = (
    b'{"code":"access_token_missing","type":"authentication_error",'
    b'"message":"Access token is missing. Send it as Authorization: Bearer."}'
)
REQUIRED = (
    b'{"code":"access_token_required","type":"authorization_error",'
    b'"message":"An API key cannot manage API keys. Send an access token."}'
)
NO_SUCH_KEY = b'{"code":"api_key_not_found","type":"not_found_error","message":"There is no such API key."}'


def call(server: Server, account: str, method: str, path: str, body: Any = None, *lines: str | bytes) -> Answer:
    """One call with a token of `account`, on a new connection."""
    sent = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    more = [f"Authorization: Bearer {token_for(account)}", *lines]
    if body is not None:
        more += ["Content-Type: application/json", f"Content-Length: {len(sent)}"]
    with Connection(server.port) as connection:
        connection.send(head(f"{method} /api/v1{path} HTTP/1.1", *more) + sent)
        return connection.answer(method)


@pytest.fixture
def account(server: Server) -> str:
    """An account that no other test has used."""
    return server.new_key.account()


@pytest.fixture
def asked(server: Server, account: str) -> Call:
    """Asks for that account."""
    return partial(call, server, account)


def _plain(server: Server, key: str) -> int:
    with Connection(server.port) as connection:
        return connection.request("GET", "/stored/plain", key).status


def _used(asked: Call) -> list[list[int]]:
    """What each key has used of each limit."""
    usage = json.loads(asked("GET", "/usage").body)["data"]
    return [[limit["used"] for limit in one["limits"]] for one in usage]


@on(SPECS, everywhere=True)
def test_the_life_of_a_key(server: Server, asked: Call) -> None:
    """A created key is admitted, after a rotation both keys are, and a revoked key is refused at once."""
    made = json.loads(asked("POST", "/api-keys", {"name": "production-backend"}).body)
    item = f"/api-keys/{made['id']}"
    first = _plain(server, made["key"])
    new = json.loads(asked("POST", f"{item}/rotate", {"grace_period_seconds": 60}).body)
    both = [_plain(server, made["key"]), _plain(server, new["key"])]
    # A server that answers in threads may release the slot after the client has the response.
    used = eventually(lambda: _used(asked), [[3, 0], [3, 0]])
    gone = [asked("DELETE", f"/api-keys/{one['id']}").status for one in (made, new)]
    none = [_plain(server, made["key"]), _plain(server, new["key"])]

    assert first == 200
    assert both == [200, 200]
    assert used == [[3, 0], [3, 0]]
    assert gone == [204, 204]
    assert none == [401, 401]
    assert [made["key"] in asked("GET", path).body.decode() for path in ("/api-keys", item)] == [False, False]


@on(SPECS)
def test_every_call_answers_as_it_says(server: Server, asked: Call) -> None:
    """Statuses and headers are those of the contract on every server."""
    made = asked("POST", "/api-keys", {"name": "n"})
    item = f"/api-keys/{json.loads(made.body)['id']}"
    answers = [
        made, asked("GET", "/api-keys?page_size=1"), asked("GET", item), asked("HEAD", item),
        asked("PATCH", item, {"name": "m"}), asked("PATCH", item, {"name": ""}), asked("OPTIONS", item),
        asked("PUT", item, {}), asked("GET", "/nothing"), asked("DELETE", item), asked("DELETE", item),
    ]  # fmt: skip

    assert [answer.status for answer in answers] == [201, 200, 200, 200, 200, 400, 204, 405, 404, 204, 404]
    assert {answer.header("cache-control") for answer in answers} == {"no-store"}
    assert {answers[number].header("allow") for number in (6, 7)} == {"DELETE, GET, HEAD, OPTIONS, PATCH"}
    assert answers[3].body == b""
    assert answers[3].header("content-length") == str(len(answers[2].body))


#: The placeholder for a valid token in the lines below.
TOKEN = b"%TOKEN%"
STRANGE: dict[str, tuple[list[bytes], bytes]] = {
    "none": ([], MISSING),
    "empty": ([b"Authorization:"], INVALID),
    "no token": ([b"Authorization: Bearer"], INVALID),
    "another scheme": ([b"Authorization: Basic %TOKEN%"], INVALID),
    "no scheme": ([b"Authorization: %TOKEN%"], INVALID),
    "twice": ([b"Authorization: Bearer %TOKEN%", b"Authorization: Bearer %TOKEN%"], INVALID),
    "twice in other case": ([b"Authorization: Bearer %TOKEN%", b"authorization: Bearer %TOKEN%"], INVALID),
    "valid, then none": ([b"Authorization: Bearer %TOKEN%", b"Authorization:"], INVALID),
    "valid, then a key": ([b"Authorization: Bearer %TOKEN%", b"Authorization: Bearer %KEY%"], INVALID),
    "a comma between": ([b"Authorization: Bearer %TOKEN%,%TOKEN%"], INVALID),
    "0xFF": ([b"Authorization: Bearer %TOKEN%\xff"], INVALID),
    "a key": ([b"Authorization: Bearer %KEY%"], REQUIRED),
    "a key in its own header": ([b"X-API-Key: %KEY%"], REQUIRED),
    "a key and no token": ([b"X-API-Key: %KEY%", b"Authorization: Bearer"], INVALID),
    "changed": ([b"Authorization: Bearer %TOKEN%A"], INVALID),
}


@on(SPECS)
@pytest.mark.parametrize("case", STRANGE)
def test_a_strange_token_manages_nothing(server: Server, account: str, case: str) -> None:
    """Every invalid token is refused with the same bytes on every server, and creates no key."""
    lines, expected = STRANGE[case]
    token, key = token_for(account).encode(), server.new_key().encode()
    sent = [line.replace(TOKEN, token).replace(b"%KEY%", key) for line in lines]
    with Connection(server.port) as connection:
        body = ["Content-Type: application/json", "Content-Length: 12"]
        connection.send(head("POST /api/v1/api-keys HTTP/1.1", *sent, *body) + b'{"name":"n"}')
        answer = connection.answer()

    status = {MISSING: 401, INVALID: 401, REQUIRED: 403}[expected]
    assert answer.status == status
    assert answer.body == expected
    assert server.new_key.service.list(account).total == 0


@on(SPECS)
def test_a_huge_token_is_refused(server: Server, account: str) -> None:
    """A token of 5 MB is a 401, or is refused by the server itself."""
    with Connection(server.port) as connection:
        connection.send(head("GET /api/v1/api-keys HTTP/1.1", b"Authorization: Bearer " + b"a" * 5_000_000))
        assert connection.answer().status in (400, 401, 431, CLOSED)


@on(SPECS)
def test_another_accounts_key_is_the_same_404(server: Server, asked: Call) -> None:
    """Ids of other accounts, revoked ids and unknown ids get identical responses."""
    other = server.new_key.account()
    theirs = json.loads(call(server, other, "POST", "/api-keys", {"name": "n"}).body)["id"]
    mine = json.loads(asked("POST", "/api-keys", {"name": "n"}).body)["id"]
    asked("DELETE", f"/api-keys/{mine}")
    answers = [
        asked(method, f"/api-keys/{one}{more}", body)
        for one in (theirs, mine, "key_0000000000000000", "%00", "a%2Fb", "..%2f..%2fusage", "%E0%A4%A")
        for method, more, body in (("GET", "", None), ("DELETE", "", None), ("PATCH", "", {"name": "x"}))
    ]

    told = {(answer.status, tuple(sorted(answer.ours())), answer.body) for answer in answers[:9]}
    assert {one[2] for one in told} == {NO_SUCH_KEY}
    assert len(told) == 1
    assert {answer.status for answer in answers[9:]} <= {400, 404}
    assert call(server, other, "GET", f"/api-keys/{theirs}").status == 200


@on(SPECS)
def test_a_body_has_bounds(server: Server, account: str, asked: Call) -> None:
    """A body over 64 KiB is refused, with a length or in chunks; a smaller one is read."""
    bodies = [b'{"name": "n"' + b" " * spaces + b"}" for spaces in (70_000, 60_000)]
    said = [asked("POST", "/api-keys", body).status for body in bodies]
    in_chunks = [_in_chunks(server, account, body) for body in bodies]

    assert said == [413, 201]
    assert in_chunks == [413, 201]


def _in_chunks(server: Server, account: str, body: bytes) -> int:
    lines = [f"Authorization: Bearer {token_for(account)}", "Content-Type: application/json"]
    with Connection(server.port) as connection:
        connection.send(head("POST /api/v1/api-keys HTTP/1.1", *lines, "Transfer-Encoding: chunked"))
        connection.send(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
        return connection.answer().status


SMUGGLED = b"POST /api/v1/api-keys HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %TOKEN%\r\n"
SMUGGLED += b'Content-Type: application/json\r\nContent-Length: 12\r\n\r\n{"name":"n"}'


@on(SPECS)
@pytest.mark.parametrize("method", ["DELETE", "GET", "PATCH"])
def test_a_body_is_no_request(server: Server, account: str, method: str) -> None:
    """The body of a request is never interpreted as the next request, whether it was read or not."""
    inner = SMUGGLED.replace(TOKEN, token_for(account).encode())
    lines = [f"Authorization: Bearer {token_for(account)}", f"Content-Length: {len(inner)}", "Content-Type: text/plain"]
    with Connection(server.port) as connection:
        connection.send(head(f"{method} /api/v1/api-keys/key_0000000000000000 HTTP/1.1", *lines) + inner)
        first = connection.answer(method).status
        connection.send(head("GET /health HTTP/1.1"))
        second = connection.answer().body

    made = server.new_key.service.list(account).total
    assert first == (415 if method == "PATCH" else 404)
    assert second in (b"healthy", b"")
    assert made == 0


@on(SPECS, without="gunicorn-sync")
def test_a_client_that_leaves_in_the_middle_of_a_body(server: Server, account: str) -> None:
    """An incomplete body creates no key, delays no other client and logs no error."""
    lines = [f"Authorization: Bearer {token_for(account)}", "Content-Type: application/json", "Content-Length: 500"]
    for leave in (Connection.close, Connection.reset):
        connection = Connection(server.port)
        connection.send(head("POST /api/v1/api-keys HTTP/1.1", *lines) + b'{"name":')
        leave(connection)

    assert server.request("GET", "/health").status == 200
    assert server.new_key.service.list(account).total == 0


@on(ASGI)
def test_a_body_that_does_not_come_is_a_408(server: Server, asked: Call) -> None:
    """A client that does not send its body gets a 408 after a while, and the server serves others meanwhile."""
    lines = ["Content-Type: application/json", "Content-Length: 500", "Connection: close"]
    answer = asked("POST", "/api-keys", None, *lines)

    assert answer.status == 408
    assert json.loads(answer.body)["code"] == "request_timeout"


@on(ASGI)
def test_a_websocket_is_refused(server: Server) -> None:
    """A WebSocket handshake is refused."""
    lines = [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: " + "A" * 22 + "==",
    ]
    with Connection(server.port) as connection:
        connection.send(head("GET /api/v1/api-keys HTTP/1.1", *lines))
        assert connection.begun().status in (403, 404)


#: Of each call; `make chaos` takes its time.
EXAMPLES = "10" if "AWX_CHAOS_SECONDS" in os.environ else "1"
ALL_PHASES = "coverage,fuzzing,stateful"
#: No schema says that a time has not passed, or that limits make a plan. So these calls may refuse what it allows.
NOT_IN_A_SCHEMA = """
[[operations]]
include-path = ["/accounts/{id}", "/accounts/{id}/override"]
checks.positive_data_acceptance.expected-statuses = ["2xx", "400", "401", "403", "404", "429", "5xx"]
"""


@pytest.mark.timeout(600)
@on_named("uvicorn-httptools", full="gunicorn-gthread")
@pytest.mark.parametrize(
    ("api", "phases"),
    [
        ("customers", ALL_PHASES),
        pytest.param("operator", ALL_PHASES, marks=pytest.mark.full),
    ],
)
def test_schemathesis_finds_nothing(server: Server, account: str, api: str, phases: str, tmp_path: Path) -> None:
    """Valid and invalid requests generated from the OpenAPI document find no response that differs from it."""
    base, token = ("/api/v1", token_for(account)) if api == "customers" else ("/api/v1/operator", operator_token())
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{server.port}{base}/openapi.json",
        "--header", f"Authorization: Bearer {token}", "--checks", "all", "--max-examples", EXAMPLES,
        "--phases", phases, "--seed", "1", "--continue-on-failure", "--no-color",
    ]  # fmt: skip
    (tmp_path / "schemathesis.toml").write_text(NOT_IN_A_SCHEMA)
    alone = {**os.environ, "NO_PROXY": "*"}
    done = subprocess.run(command, cwd=tmp_path, env=alone, capture_output=True, text=True, timeout=580, check=False)
    tested = re.search(r"(\d+) generated, (\d+) passed", done.stdout)

    assert done.returncode == 0, done.stdout + done.stderr
    assert (tested and tested[1] == tested[2]) is True, done.stdout + done.stderr
