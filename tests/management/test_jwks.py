"""An issuer's keys at a URL: fetched when they are needed or may have changed, and never as often as tokens ask."""

import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from threading import enumerate as enumerate_threads
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec
from tests.management.conftest import claims, signed
from tests.management.test_tokens import INVALID, jwk_of, outcome_of, tokens_of

from awx_ratelimit.errors import AccessRefused, SigningKeysUnavailable
from awx_ratelimit.management import AccessTokens, Jwks, Owner
from awx_ratelimit.testing import ManualClock

ACME = Owner("acme", "acme")


class Issuer:
    """A real server on this machine that publishes keys."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(3)]
        self.answer: tuple[int, bytes, dict[str, str]] = (200, b"", {})
        self.requests = 0
        #: The part of a response that is sent byte by byte and never ends: ``status``, ``head`` or ``body``.
        self.drips = ""
        self.dripping = Event()
        self._closing = Event()
        #: Set while the server responds; a test clears it to make the server wait.
        self.open = Event()
        self.open.set()
        #: The response at any other path.
        self.elsewhere = self._document(1)
        self.publish(0)
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.requests += 1
                issuer.open.wait(30)
                if issuer.drips in ("status", "head"):
                    issuer.drip(self.wfile, b"HTTP/1.1 " if issuer.drips == "status" else b"HTTP/1.1 200 OK\r\nX-A: ")
                    return
                if self.path != "/keys":
                    self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n" + issuer.elsewhere)
                    return
                status, body, headers = issuer.answer
                if not status:
                    self.wfile.write(body)
                    return
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                with suppress(OSError):
                    if issuer.drips:
                        issuer.drip(self.wfile)
                        return
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._server.server_port}/keys"
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def publish(self, *numbers: int) -> None:
        """Publish exactly these keys."""
        self.answer = (200, self._document(*numbers), {})

    def _document(self, *numbers: int) -> bytes:
        members = [jwk_of(self.keys[number], f"k{number}") for number in numbers]
        return json.dumps({"keys": members}).encode()

    def drip(self, file: Any, begin: bytes = b"") -> None:
        """Send white space slowly until the client disconnects or the server is closed."""
        with suppress(OSError):
            file.write(begin)
            while not self._closing.wait(0.02):
                file.write(b" ")
                self.dripping.set()

    def token(self, clock: ManualClock, number: int, kid: str | None = None) -> str:
        """A token that is signed with a published key."""
        return signed(claims(clock), self.keys[number], "ES256", kid=kid or f"k{number}")

    def close(self) -> None:
        """Stop the server."""
        self._closing.set()
        self.open.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    issuer = Issuer()
    yield issuer
    issuer.close()


@pytest.fixture
def at_url(issuer: Issuer, clock: ManualClock) -> AccessTokens:
    """Tokens of the issuer, whose keys are fetched; the test moves the clock."""
    return tokens_of(clock, Jwks.at(issuer.url, clock=lambda: clock.now_ms() / 1000), ["ES256"], max_lifetime_s=10**6)


def test_first_token(issuer: Issuer, at_url: AccessTokens, clock: ManualClock) -> None:
    """Keys are fetched with the first token, and not again for every token."""
    before = issuer.requests
    said = [outcome_of(at_url, issuer.token(clock, 0)) for _ in range(3)]

    assert before == 0
    assert said == [ACME] * 3
    assert issuer.requests == 1


def test_changed_keys(issuer: Issuer, at_url: AccessTokens, clock: ManualClock) -> None:
    """A token with an unknown key id fetches the set again, and tokens of a withdrawn key are refused."""
    outcome_of(at_url, issuer.token(clock, 0))
    issuer.publish(1)
    clock.advance(10_000)

    assert [outcome_of(at_url, issuer.token(clock, number)) for number in (1, 0)] == [ACME, INVALID]
    assert issuer.requests == 2


def test_forged_key_ids(issuer: Issuer, at_url: AccessTokens, clock: ManualClock) -> None:
    """Any number of tokens with unknown key ids cause one fetch in ten seconds."""
    for number in range(50):
        outcome_of(at_url, issuer.token(clock, 1, f"forged-{number}"))
        clock.advance(200)

    assert issuer.requests == 1


def test_withdrawn_key(issuer: Issuer, at_url: AccessTokens, clock: ManualClock) -> None:
    """The set is fetched again after five minutes, even if all key ids are known."""
    outcome_of(at_url, issuer.token(clock, 0))
    issuer.publish(1)
    clock.advance(299_999)
    still = outcome_of(at_url, issuer.token(clock, 0))
    clock.advance(1)

    assert still == ACME
    assert outcome_of(at_url, issuer.token(clock, 0)) == INVALID


@pytest.mark.parametrize(
    "answer",
    [(500, b"", {}), (404, b"{}", {}), (200, b"<html>", {}), (200, b"[]", {}), (200, b'{"keys": []}', {}),
     (200, b"[" * 90_000, {}), (200, b'{"keys":[]}' + b" " * 300_000, {}), (0, b"no HTTP at all", {}),
     (200, b"", {"Content-Length": "10"})],
    ids=lambda answer: repr(answer)[:30],
)  # fmt: skip
def test_invalid_response(
    issuer: Issuer, at_url: AccessTokens, clock: ManualClock, answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """An invalid set logs a warning; the last good set is used for a day, and then no token is accepted."""
    outcome_of(at_url, issuer.token(clock, 0))
    issuer.answer = answer
    clock.advance(86_399_999)
    remembered = outcome_of(at_url, issuer.token(clock, 0))
    clock.advance(1)
    with pytest.raises(SigningKeysUnavailable, match="are unavailable"):
        outcome_of(at_url, issuer.token(clock, 0))

    assert remembered == ACME
    assert "could not be fetched" in caplog.text


def test_long_response(issuer: Issuer, at_url: AccessTokens, clock: ManualClock) -> None:
    """At most 256 KiB are read, and a longer set is invalid."""
    outcome_of(at_url, issuer.token(clock, 0))
    issuer.publish(1)
    issuer.answer = (200, issuer.answer[1] + b" " * 262_144, {})
    clock.advance(300_000)

    assert outcome_of(at_url, issuer.token(clock, 0)) == ACME


def test_redirect(issuer: Issuer, at_url: AccessTokens, clock: ManualClock) -> None:
    """Redirects are not followed."""
    outcome_of(at_url, issuer.token(clock, 0))
    issuer.answer = (302, b"", {"Location": "/elsewhere"})
    clock.advance(300_000)

    assert [outcome_of(at_url, issuer.token(clock, number)) for number in (0, 1)] == [ACME, INVALID]


def test_issuer_is_down(issuer: Issuer, at_url: AccessTokens, clock: ManualClock) -> None:
    """No token is accepted until the issuer is up again, and it is not asked all the time meanwhile."""
    issuer.answer = (503, b"", {})
    for _ in range(5):
        with pytest.raises(SigningKeysUnavailable):
            outcome_of(at_url, issuer.token(clock, 0))
    asked = issuer.requests
    issuer.publish(0)
    clock.advance(10_000)

    assert asked == 1
    assert outcome_of(at_url, issuer.token(clock, 0)) == ACME


@pytest.mark.parametrize("part", ["status", "head", "body"])
def test_slow_response(issuer: Issuer, clock: ManualClock, part: str) -> None:
    """An issuer that sends single bytes and never ends delays no caller beyond the timeout."""
    issuer.drips = part
    tokens = tokens_of(clock, Jwks.at(issuer.url, timeout_s=0.3), ["ES256"])
    with pytest.raises(SigningKeysUnavailable):
        outcome_of(tokens, issuer.token(clock, 0))

    # This thread continued while the server was sending, and the fetch ends soon.
    assert issuer.dripping.is_set()
    wait_until(lambda: not fetching())


def fetching() -> list[Thread]:
    """The threads that fetch keys."""
    return [thread for thread in enumerate_threads() if thread.name == "awx_ratelimit jwks"]


def wait_until(done: Callable[[], object]) -> None:
    """Wait until `done()` is true; the test's own timeout ends the wait."""
    while not done():
        time.sleep(0.01)


def outcomes_in_threads(tokens: AccessTokens, token: str, threads: int) -> tuple[list[Thread], list[object]]:
    """The outcome of each of several threads."""
    said: list[object] = []

    def ask() -> None:
        try:
            said.append(outcome_of(tokens, token))
        except SigningKeysUnavailable as error:
            said.append(type(error))

    started = [Thread(target=ask) for _ in range(threads)]
    for thread in started:
        thread.start()
    return started, said


def test_shared_fetch(issuer: Issuer, at_url: AccessTokens, clock: ManualClock) -> None:
    """Concurrent callers without keys share one fetch and its result."""
    issuer.open.clear()
    threads, said = outcomes_in_threads(at_url, issuer.token(clock, 0), 8)
    wait_until(lambda: issuer.requests)
    issuer.open.set()
    for thread in threads:
        thread.join()

    assert said == [ACME] * 8
    assert issuer.requests == 1


def test_shared_deadline(issuer: Issuer, clock: ManualClock) -> None:
    """If the issuer never responds, concurrent callers all give up at one deadline, not one after another."""
    issuer.open.clear()
    tokens = tokens_of(clock, Jwks.at(issuer.url, timeout_s=1.5, clock=lambda: clock.now_ms() / 1000), ["ES256"])
    threads, said = outcomes_in_threads(tokens, issuer.token(clock, 0), 8)
    wait_until(lambda: issuer.requests)
    # By then another fetch would be allowed.
    clock.advance(10_000)
    for thread in threads:
        thread.join()

    assert said == [SigningKeysUnavailable] * 8
    assert issuer.requests == 1


def test_new_key_during_a_fetch(issuer: Issuer, at_url: AccessTokens, clock: ManualClock) -> None:
    """After the issuer has changed its keys, tokens with the new key wait for a fetch that is already running."""
    outcome_of(at_url, issuer.token(clock, 0))
    issuer.publish(0, 1)
    clock.advance(10_000)
    issuer.open.clear()
    threads, said = outcomes_in_threads(at_url, issuer.token(clock, 1), 8)
    wait_until(lambda: issuer.requests == 2)
    issuer.open.set()
    for thread in threads:
        thread.join()

    assert said == [ACME] * 8
    assert issuer.requests == 2


def test_hanging_resolver(
    issuer: Issuer, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The deadline covers the name look-up; while it hangs, no other one begins and no caller waits."""
    looked_up, goes_on, look_up = [], Event(), socket.getaddrinfo

    def hang(*args: Any, **options: Any) -> Any:
        looked_up.append(args)
        goes_on.wait(60)
        return look_up(*args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    tokens = tokens_of(clock, Jwks.at(issuer.url, timeout_s=0.2, clock=lambda: clock.now_ms() / 1000), ["ES256"])
    for _ in range(5):
        with pytest.raises(SigningKeysUnavailable):
            outcome_of(tokens, issuer.token(clock, 0))
        clock.advance(10_000)
    assert len(looked_up) == 1
    assert len(fetching()) == 1
    goes_on.set()
    wait_until(lambda: not fetching())

    # A response after the deadline is ignored; the next fetch counts.
    assert "the response took too long" in caplog.text
    assert outcome_of(tokens, issuer.token(clock, 0)) == ACME


def test_tls(
    clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Keys are fetched only from a server with a trusted certificate."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    issuer = Issuer(context)
    try:
        stranger = tokens_of(clock, Jwks.at(issuer.url), ["ES256"])
        with pytest.raises(SigningKeysUnavailable):
            outcome_of(stranger, issuer.token(clock, 0))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
        trusting = tokens_of(clock, Jwks.at(issuer.url), ["ES256"])

        assert outcome_of(trusting, issuer.token(clock, 0)) == ACME
    finally:
        issuer.close()
    assert issuer.url[:8] == "https://"
    assert "CERTIFICATE_VERIFY_FAILED" in caplog.text


def test_api_without_keys(issuer: Issuer, at_url: AccessTokens, clock: ManualClock, service: Any, limiter: Any) -> None:
    """Without keys to verify tokens, calls are a 503 with a separate code, and an error is logged."""
    from tests.management.conftest import PLANS, Client

    from awx_ratelimit.management import ManagementApi

    issuer.answer = (503, b"", {})
    client = Client(ManagementApi(service, at_url, limiter=limiter, plans=PLANS), issuer.token(clock, 0))
    answer = client("GET", "/api-keys")

    assert answer.status == 503
    assert answer.code == "signing_keys_unavailable"


def test_refresh_blocks_nobody(issuer: Issuer, at_url: AccessTokens, clock: ManualClock) -> None:
    """While one thread refreshes the set, others use the current one."""
    outcome_of(at_url, issuer.token(clock, 0))
    clock.advance(300_000)
    issuer.open.clear()
    threads, said = outcomes_in_threads(at_url, issuer.token(clock, 0), 1)
    wait_until(lambda: issuer.requests == 2)

    assert outcome_of(at_url, issuer.token(clock, 0)) == ACME
    assert said == []
    issuer.open.set()
    threads[0].join()
    assert said == [ACME]


def test_keys_in_memory(issuer: Issuer, at_url: AccessTokens, clock: ManualClock) -> None:
    """A token is verified without a fetch only while its key is in memory."""
    token = issuer.token(clock, 0).encode()
    with pytest.raises(AccessRefused):
        at_url.claims_of(token, loads_keys=False)
    before = issuer.requests
    at_url.claims_of(token)

    assert at_url.claims_of(token, loads_keys=False)["sub"] == "acme"
    assert (before, issuer.requests) == (0, 1)
