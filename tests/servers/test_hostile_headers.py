"""Malformed key headers, as raw bytes: never admitted, and never a server error.

Each case is sent to an app whose keys are known beforehand, and to one whose keys are in a store.
"""

from collections.abc import Iterator

import pytest
from tests.servers.harness import SPECS, Server, on
from tests.servers.limits import api_key
from tests.servers.wire import CLOSED, Answer, Connection, head

from awx_ratelimit.keys import KeyFormat

#: The placeholder for a valid key in the lines below.
KEY = b"%KEY%"

#: Malformed requests by name. Each must get a 401 'invalid_api_key', unless OTHERWISE says something else.
CASES: dict[str, list[bytes]] = {
    "nothing strange": [b"X-API-Key: %KEY%"],
    "no space": [b"X-API-Key:%KEY%"],
    "spaces and tabs around": [b"X-API-Key: \t %KEY% \t "],
    "name in other case": [b"x-api-KEY: %KEY%"],
    "no header": [],
    "bearer instead": [b"Authorization: Bearer %KEY%"],
    "twice": [b"X-API-Key: %KEY%", b"X-API-Key: %KEY%"],
    "twice in other case": [b"X-API-Key: %KEY%", b"x-api-key: %KEY%"],
    "unknown, then valid": [b"X-API-Key: unknown", b"X-API-Key: %KEY%"],
    "valid, then unknown": [b"X-API-Key: %KEY%", b"X-API-Key: unknown"],
    "valid, then empty": [b"X-API-Key: %KEY%", b"X-API-Key:"],
    "empty, then valid": [b"X-API-Key:", b"X-API-Key: %KEY%"],
    "empty": [b"X-API-Key:"],
    "spaces and tabs alone": [b"X-API-Key: \t "],
    "129 bytes": [b"X-API-Key: " + b"a" * 129],
    "valid and 100 bytes more": [b"X-API-Key: %KEY%" + b"a" * 100],
    "comma between": [b"X-API-Key: %KEY%,%KEY%"],
    "comma behind": [b"X-API-Key: %KEY%,"],
    "space between": [b"X-API-Key: %KEY% %KEY%"],
    "quotes": [b'X-API-Key: "%KEY%"'],
    "bearer": [b"X-API-Key: Bearer %KEY%"],
    "0xFF": [b"X-API-Key: %KEY%\xff"],
    "unicode": ["X-API-Key: %KEY%é".encode()],
    "no-break spaces around": [b"X-API-Key: \xa0%KEY%\xa0"],
    "NUL": [b"X-API-Key: %KEY%\x00"],
    "DEL": [b"X-API-Key: %KEY%\x7f"],
    "vertical tab": [b"X-API-Key: \x0b%KEY%"],
    "bare CR": [b"X-API-Key: %KEY%\rX-Other: a"],
    "bare LF": [b"X-Other: a\nX-API-Key: %KEY%"],
    "space before the colon": [b"X-API-Key : %KEY%"],
    "no-break space before the colon": [b"X-API-Key\xa0: %KEY%"],
    "key on a folded line": [b"X-API-Key:\r\n %KEY%"],
    "folded line behind": [b"X-API-Key: %KEY%\r\n more"],
    "folded line of another header": [b"X-Other: a\r\n X-API-Key: %KEY%"],
    "underscores": [b"X_API_Key: %KEY%"],
    "valid, then underscores": [b"X-API-Key: %KEY%", b"X_API_Key: unknown"],
    "unknown, then underscores": [b"X-API-Key: unknown", b"X_API_Key: %KEY%"],
}
_EVERYWHERE = {
    "nothing strange": "admitted",
    "no space": "admitted",
    "spaces and tabs around": "admitted",
    "name in other case": "admitted",
    "no header": "missing",
    "bearer instead": "missing",
    "NUL": "400",
    "vertical tab": "400",
    "bare CR": "400",
    "space before the colon": "400",
    "no-break space before the colon": "400",
    # The name is another one: ASGI servers pass it on as it is, gunicorn and waitress drop it.
    "underscores": "missing",
    "valid, then underscores": "admitted",
}
_FOLDING_IS_400 = {
    "key on a folded line": "400",
    "folded line behind": "400",
    "folded line of another header": "400",
    "DEL": "400",
}
_FOLDING_IS_A_SPACE = {"key on a folded line": "admitted", "folded line of another header": "missing"}
_LF_ENDS_A_LINE = {"bare LF": "admitted"}
_LF_IS_400 = {"bare LF": "400"}
OTHERWISE = {
    "uvicorn-httptools": _FOLDING_IS_400 | _LF_IS_400,
    "uvicorn-h11": _FOLDING_IS_A_SPACE | _LF_ENDS_A_LINE,
    "hypercorn": _FOLDING_IS_A_SPACE | _LF_ENDS_A_LINE,
    "granian-asgi": _FOLDING_IS_400 | _LF_ENDS_A_LINE,
    "gunicorn-sync": _FOLDING_IS_400 | _LF_IS_400,
    "gunicorn-gthread": _FOLDING_IS_400 | _LF_IS_400,
    "gunicorn-preload": _FOLDING_IS_400 | _LF_IS_400,
    "gunicorn-gevent-preload": _FOLDING_IS_400 | _LF_IS_400,
    "waitress": _FOLDING_IS_A_SPACE | _LF_IS_400 | {"DEL": "400"},
    # WSGI gives both spellings one name, and granian lets the later header win: it is simply the key.
    "granian-wsgi": _FOLDING_IS_400
    | _LF_ENDS_A_LINE
    | {"underscores": "admitted", "valid, then underscores": "invalid", "unknown, then underscores": "admitted"},
}
INVALID = b'{"code":"invalid_api_key","type":"authentication_error","message":"API key is invalid."}'
MISSING = (
    b'{"code":"api_key_missing","type":"authentication_error",'
    b'"message":"API key is missing. Send it in the X-API-Key header."}'
)


#: Where keys of each kind are good.
PATHS = {"static": "/plain", "stored": "/stored/plain"}
on_both = pytest.mark.parametrize("kind", PATHS)


@pytest.fixture(autouse=True)
def _forgiven(server: Server) -> Iterator[None]:
    """No test sends enough strange keys to be refused for that, but the one that is about it; none inherits any."""
    server.forgive()
    yield
    server.forgive()


def _key(server: Server, kind: str) -> str:
    return server.new_key() if kind == "stored" else api_key(server.new_subject("burst"))


def _answer(server: Server, kind: str, lines: list[bytes]) -> Answer:
    key = _key(server, kind).encode()
    with Connection(server.port) as connection:
        connection.send(head(f"GET {PATHS[kind]} HTTP/1.1", *(line.replace(KEY, key) for line in lines)))
        return connection.answer()


def _headers_of_401(body: bytes) -> list[tuple[str, str]]:
    return [
        ("cache-control", "no-store"),
        ("content-length", str(len(body))),
        ("content-type", "application/json"),
        ("www-authenticate", 'ApiKey realm="api", header="X-API-Key"'),
    ]


def _verdict(answer: Answer) -> str:
    if answer.status == 401:
        for name, body in (("invalid", INVALID), ("missing", MISSING)):
            if (sorted(answer.ours()), answer.body) == (_headers_of_401(body), body):
                return name
    if answer.status == 200:
        return "admitted"
    return "closed" if answer.status == CLOSED else str(answer.status)


@on(SPECS)
@on_both
@pytest.mark.parametrize("case", CASES)
def test_a_strange_key_is_never_let_in(server: Server, kind: str, case: str) -> None:
    """Only a single valid key is admitted; the 401s for all other key headers are equal byte for byte."""
    expected = {**_EVERYWHERE, **OTHERWISE[server.name]}.get(case, "invalid")

    assert _verdict(_answer(server, kind, CASES[case])) == expected


@on(SPECS)
@on_both
def test_a_huge_key_is_never_let_in(server: Server, kind: str) -> None:
    """200 KB of a key are a 401, or a refusal of the server's own."""
    # Which of them may change with how the bytes come in: a server that stops reading can lose its own answer.
    assert _verdict(_answer(server, kind, [b"X-API-Key: " + b"a" * 200_000])) in ("invalid", "400", "431", "closed")


@on(SPECS)
@on_both
def test_an_address_that_guesses_keys_is_refused(server: Server, kind: str) -> None:
    """After 20 unknown keys in a minute, only keys in memory are admitted until Retry-After has passed."""
    known = _key(server, kind).encode()
    before = _answer(server, kind, [b"X-API-Key: " + known])
    unknown = [KeyFormat().new().reveal().encode() for _ in range(22)]
    guesses = [_answer(server, kind, [b"X-API-Key: " + key]).status for key in unknown]

    in_memory = _answer(server, kind, [b"X-API-Key: " + known])
    # Every key of the other kind is in memory from the start.
    another = _answer(server, kind, [b"X-API-Key: %KEY%" if kind == "stored" else b"X-API-Key: " + unknown[0]])
    server.advance(int(another.header("retry-after") or 0) * 1000)
    later = _answer(server, kind, [b"X-API-Key: %KEY%"])
    assert guesses == [401] * 20 + [429] * 2
    assert [answer.status for answer in (before, in_memory, another, later)] == [200, 200, 429, 200]


@on(SPECS)
@on_both
def test_the_spellings_of_a_key_share_one_budget(server: Server, kind: str) -> None:
    """Another case of the header's name, or spaces around the key, do not give a second budget."""
    key = _key(server, kind)
    spellings = [f"X-API-Key: {key}", f"x-api-key:{key}", f"X-Api-Key: \t{key} "]

    left = []
    for line in spellings:
        with Connection(server.port) as connection:
            connection.send(head(f"GET {PATHS[kind]} HTTP/1.1", line))
            left.append((connection.answer().header("ratelimit") or "").split(";")[1])
    assert left == ["r=9", "r=8", "r=7"]
