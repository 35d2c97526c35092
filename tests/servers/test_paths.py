"""Paths that are strange on the wire: no spelling of a path is a way around the limits, or breaks them."""

from tests.servers.harness import SPECS, Server, on
from tests.servers.limits import AMPLE, BURST, api_key
from tests.servers.wire import Connection, head

HEALTHY = b"healthy"

#: Targets that are decided, or that a server turns down itself.
LIMITED = [
    b"//plain", b"/plain/", b"/plain//", b"/%2Fplain", b"/plain%2F", b"/plain%00", b"/%00", b"/%2e%2e/plain",
    b"/x/../plain", b"/./plain", b"/plain%", b"/plain%zz", b"/%ff", b"/\xff", b"/plain\xff", b"/%C3%A9",
    b"*", b"plain", b"?", b"/" + b"a" * 5000, b"http://127.0.0.1/plain",
    # Near misses of the exempt /health and /free/{subject}.
    b"/health/", b"/health%2F", b"/health%00", b"/health%0a", b"/health%0d%0a", b"/health%20", b"/health%ff",
    b"/health\xff", b"/health;x", b"/HEALTH", b"/x/../health", b"/x/%2e%2e/health", b"/x/..%2fhealth",
    b"/mounted/../health", b"/fastapi/../health", b"//127.0.0.1/health", b"/health/x", b"health", b"/free/",
    b"/free//slots-001", b"/free/slots-001/x",
]  # fmt: skip
#: Other ways to write the exempt /health itself: the app serves them as that.
EXEMPT = [b"/health", b"/health?x=1", b"/health?", b"/%68ealth", b"/%68%65%61%6c%74%68"]
#: What only some servers take for /health, before anybody else sees it; the others have them limited or turn them down.
DISPUTED = [b"//health", b"/health#x", b"/health\t", b"http://127.0.0.1/health", b"http:///health"]

#: 414: gunicorn, for the long one. 301 to 308 and 404 are the app's: the request was admitted.
TURNED_DOWN = {400, 414}


def _asked(server: Server, target: bytes, *keys: str) -> tuple[int, bytes, str | None]:
    with Connection(server.port) as connection:
        connection.send(head(b"GET " + target + b" HTTP/1.1", *(f"X-API-Key: {key}" for key in keys)))
        answer = connection.answer()
    return answer.status, answer.body, answer.header("ratelimit")


@on(SPECS)
def test_no_path_gets_around_the_key(server: Server) -> None:
    """Without a key no spelling of a path gets in: a 401, or the server's own refusal."""
    statuses = {target: _asked(server, target)[0] for target in LIMITED}

    assert {target: status for target, status in statuses.items() if status not in TURNED_DOWN | {401}} == {}


@on(SPECS)
def test_no_path_gets_around_the_limit(server: Server) -> None:
    """With a budget used up every spelling of a path is refused, whether or not the app serves it."""
    subject = server.new_subject("burst")
    for _ in range(BURST):
        server.request("GET", "/plain", subject)

    statuses = {target: _asked(server, target, api_key(subject))[0] for target in LIMITED}
    assert {target: status for target, status in statuses.items() if status not in TURNED_DOWN | {429}} == {}


@on(SPECS)
def test_every_path_is_decided_once(server: Server) -> None:
    """Each request that gets to the app costs one token, whatever its path, and none of them breaks anything."""
    key = api_key(server.new_subject("ample"))

    wrong = {}
    left = AMPLE
    for target in LIMITED:
        status, _, limits = _asked(server, target, key)
        left -= limits is not None
        decided = status in (200, 307, 308, 404) and (limits or "").startswith(f'"minute";r={left};')
        if not (decided or (limits is None and status in TURNED_DOWN)):
            wrong[target] = (status, limits)
    assert wrong == {}


@on(SPECS)
def test_an_exempt_path_is_exempt_in_every_encoding(server: Server) -> None:
    """A path that the app serves as exempt needs no key and has no limit headers, in any encoding."""
    answers = {target: _asked(server, target) for target in EXEMPT}

    assert answers == dict.fromkeys(EXEMPT, (200, HEALTHY, None))


@on(SPECS)
def test_what_a_server_rewrites_is_what_the_limiter_sees(server: Server) -> None:
    """If servers read a target differently, the limiter exempts only what the app serves as exempt."""
    answers = {target: _asked(server, target)[:2] for target in DISPUTED}

    wrong = {
        target: answer
        for target, answer in answers.items()
        if answer != (200, HEALTHY) and answer[0] not in TURNED_DOWN | {401}
    }
    assert wrong == {}


@on(tuple(spec for spec in SPECS if spec.name.startswith("gunicorn")))
def test_a_prefix_in_a_header_exempts_nothing(server: Server) -> None:
    """Where gunicorn believes a SCRIPT_NAME header, it does not carry a request past its key."""
    with Connection(server.port) as connection:
        connection.send(head(b"GET /free/plain HTTP/1.1", "SCRIPT_NAME: /free"))
        answer = connection.answer()

    assert answer.status == 401
