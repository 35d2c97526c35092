"""The keys of an issuer at a URL: fetched when they are needed and when they may have changed, at nobody's bidding."""

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
from tests.management.test_tokens import INVALID, jwk_of, said_of, tokens_of

from awx_ratelimit.errors import SigningKeysUnavailable
from awx_ratelimit.management import AccessTokens, Jwks, Owner
from awx_ratelimit.testing import ManualClock

ACME = Owner("acme", "acme")


class Issuer:
    """Publishes keys on a real server of this machine."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(3)]
        self.answer: tuple[int, bytes, dict[str, str]] = (200, b"", {})
        self.asked = 0
        #: Which part of an answer comes byte by byte, and never ends: ``status``, ``head`` or ``body``.
        self.drips = ""
        self.dripping = Event()
        self._closing = Event()
        #: Set while it answers; a test clears it to have it wait.
        self.open = Event()
        self.open.set()
        #: What is answered at any other path.
        self.elsewhere = self._document(1)
        self.publish(0)
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked += 1
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
        """Have these keys in the set, and no others."""
        self.answer = (200, self._document(*numbers), {})

    def _document(self, *numbers: int) -> bytes:
        members = [jwk_of(self.keys[number], f"k{number}") for number in numbers]
        return json.dumps({"keys": members}).encode()

    def drip(self, file: Any, begin: bytes = b"") -> None:
        """Send white space, now and then, until the client leaves or the server is closed."""
        with suppress(OSError):
            file.write(begin)
            while not self._closing.wait(0.02):
                file.write(b" ")
                self.dripping.set()

    def token(self, clock: ManualClock, number: int, kid: str | None = None) -> str:
        """A token that is signed with one of them."""
        return signed(claims(clock), self.keys[number], "ES256", kid=kid or f"k{number}")

    def close(self) -> None:
        """End the server."""
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
    """Tokens of the issuer, whose keys are fetched; the clock is the one of the tests."""
    return tokens_of(clock, Jwks.at(issuer.url, clock=lambda: clock.now_ms() / 1000), ["ES256"], max_lifetime_s=10**6)


def test_keys_are_fetched_once(issuer: Issuer, at_url: AccessTokens, clock: ManualClock) -> None:
    """Not before a token comes, and then not for every token."""
    before = issuer.asked
    said = [said_of(at_url, issuer.token(clock, 0)) for _ in range(3)]

    assert before == 0
    assert said == [ACME] * 3
    assert issuer.asked == 1


def test_a_key_that_is_new_is_found(issuer: Issuer, at_url: AccessTokens, clock: ManualClock) -> None:
    """A token that names an unknown key has the set fetched again, and one of a key that was withdrawn is refused."""
    said_of(at_url, issuer.token(clock, 0))
    issuer.publish(1)
    clock.advance(10_000)

    assert [said_of(at_url, issuer.token(clock, number)) for number in (1, 0)] == [ACME, INVALID]
    assert issuer.asked == 2


def test_forged_names_do_not_make_it_ask(issuer: Issuer, at_url: AccessTokens, clock: ManualClock) -> None:
    """However many tokens name unknown keys: one question in ten seconds."""
    for number in range(50):
        said_of(at_url, issuer.token(clock, 1, f"forged-{number}"))
        clock.advance(200)

    assert issuer.asked == 1


def test_a_withdrawn_key_is_good_for_minutes(issuer: Issuer, at_url: AccessTokens, clock: ManualClock) -> None:
    """The set is fetched again after five minutes, though every key that is named is known."""
    said_of(at_url, issuer.token(clock, 0))
    issuer.publish(1)
    clock.advance(299_999)
    still = said_of(at_url, issuer.token(clock, 0))
    clock.advance(1)

    assert still == ACME
    assert said_of(at_url, issuer.token(clock, 0)) == INVALID


@pytest.mark.parametrize(
    "answer",
    [(500, b"", {}), (404, b"{}", {}), (200, b"<html>", {}), (200, b"[]", {}), (200, b'{"keys": []}', {}),
     (200, b"[" * 90_000, {}), (200, b'{"keys":[]}' + b" " * 300_000, {}), (0, b"no HTTP at all", {}),
     (200, b"", {"Content-Length": "10"})],
    ids=lambda answer: repr(answer)[:30],
)  # fmt: skip
def test_a_bad_answer_keeps_the_old_keys(
    issuer: Issuer, at_url: AccessTokens, clock: ManualClock, answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """What is no set of keys is a warning in the log; the last set counts for a day, and then nobody is let in."""
    said_of(at_url, issuer.token(clock, 0))
    issuer.answer = answer
    clock.advance(86_399_999)
    remembered = said_of(at_url, issuer.token(clock, 0))
    clock.advance(1)
    with pytest.raises(SigningKeysUnavailable, match="are unavailable"):
        said_of(at_url, issuer.token(clock, 0))

    assert remembered == ACME
    assert "could not be fetched" in caplog.text


def test_a_set_that_is_too_long_is_none(issuer: Issuer, at_url: AccessTokens, clock: ManualClock) -> None:
    """No more than 256 KiB are read, and what is cut off is not guessed."""
    said_of(at_url, issuer.token(clock, 0))
    issuer.publish(1)
    issuer.answer = (200, issuer.answer[1] + b" " * 262_144, {})
    clock.advance(300_000)

    assert said_of(at_url, issuer.token(clock, 0)) == ACME


def test_nobody_is_sent_elsewhere(issuer: Issuer, at_url: AccessTokens, clock: ManualClock) -> None:
    """A redirection is not followed: who can answer with one could answer from anywhere."""
    said_of(at_url, issuer.token(clock, 0))
    issuer.answer = (302, b"", {"Location": "/elsewhere"})
    clock.advance(300_000)

    assert [said_of(at_url, issuer.token(clock, number)) for number in (0, 1)] == [ACME, INVALID]


def test_an_issuer_that_is_not_there(issuer: Issuer, at_url: AccessTokens, clock: ManualClock) -> None:
    """Nobody is let in; and as soon as it is there again, all are, without its having been asked all the time."""
    issuer.answer = (503, b"", {})
    for _ in range(5):
        with pytest.raises(SigningKeysUnavailable):
            said_of(at_url, issuer.token(clock, 0))
    asked = issuer.asked
    issuer.publish(0)
    clock.advance(10_000)

    assert asked == 1
    assert said_of(at_url, issuer.token(clock, 0)) == ACME


@pytest.mark.parametrize("part", ["status", "head", "body"])
def test_an_answer_that_drips_is_none(issuer: Issuer, clock: ManualClock, part: str) -> None:
    """An issuer that sends a byte now and then, and never ends, holds nobody beyond the timeout."""
    issuer.drips = part
    tokens = tokens_of(clock, Jwks.at(issuer.url, timeout_s=0.3), ["ES256"])
    with pytest.raises(SigningKeysUnavailable):
        said_of(tokens, issuer.token(clock, 0))

    # This thread went on while the server was sending; and the fetch leaves it soon.
    assert issuer.dripping.is_set()
    until(lambda: not fetching())


def fetching() -> list[Thread]:
    """The threads that fetch keys."""
    return [thread for thread in enumerate_threads() if thread.name == "awx_ratelimit jwks"]


def until(done: Callable[[], object]) -> None:
    """Until it is so; a test that waits for ever is ended by its own timeout."""
    while not done():
        time.sleep(0.01)


def said_in_threads(tokens: AccessTokens, token: str, threads: int) -> tuple[list[Thread], list[object]]:
    """What each of several threads is told, as soon as it is."""
    said: list[object] = []

    def ask() -> None:
        try:
            said.append(said_of(tokens, token))
        except SigningKeysUnavailable as error:
            said.append(type(error))

    started = [Thread(target=ask) for _ in range(threads)]
    for thread in started:
        thread.start()
    return started, said


def test_all_who_wait_share_one_fetch(issuer: Issuer, at_url: AccessTokens, clock: ManualClock) -> None:
    """Of many that come while there is no key the first asks, and its answer is everybody's."""
    issuer.open.clear()
    threads, said = said_in_threads(at_url, issuer.token(clock, 0), 8)
    until(lambda: issuer.asked)
    issuer.open.set()
    for thread in threads:
        thread.join()

    assert said == [ACME] * 8
    assert issuer.asked == 1


def test_all_who_wait_share_one_deadline(issuer: Issuer, clock: ManualClock) -> None:
    """An issuer that says nothing holds them together, not one after the other."""
    issuer.open.clear()
    tokens = tokens_of(clock, Jwks.at(issuer.url, timeout_s=1.5, clock=lambda: clock.now_ms() / 1000), ["ES256"])
    threads, said = said_in_threads(tokens, issuer.token(clock, 0), 8)
    until(lambda: issuer.asked)
    # By then it would be time to ask again.
    clock.advance(10_000)
    for thread in threads:
        thread.join()

    assert said == [SigningKeysUnavailable] * 8
    assert issuer.asked == 1


def test_a_new_key_is_waited_for_by_all(issuer: Issuer, at_url: AccessTokens, clock: ManualClock) -> None:
    """After the issuer has changed its keys, no token of the new one is refused because another is asking already."""
    said_of(at_url, issuer.token(clock, 0))
    issuer.publish(0, 1)
    clock.advance(10_000)
    issuer.open.clear()
    threads, said = said_in_threads(at_url, issuer.token(clock, 1), 8)
    until(lambda: issuer.asked == 2)
    issuer.open.set()
    for thread in threads:
        thread.join()

    assert said == [ACME] * 8
    assert issuer.asked == 2


def test_a_resolver_that_hangs_holds_nobody(
    issuer: Issuer, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The look-up of the name is part of the deadline; until it ends nobody begins another one, and nobody waits."""
    looked_up, goes_on, look_up = [], Event(), socket.getaddrinfo

    def hang(*args: Any, **options: Any) -> Any:
        looked_up.append(args)
        goes_on.wait(60)
        return look_up(*args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    tokens = tokens_of(clock, Jwks.at(issuer.url, timeout_s=0.2, clock=lambda: clock.now_ms() / 1000), ["ES256"])
    for _ in range(5):
        with pytest.raises(SigningKeysUnavailable):
            said_of(tokens, issuer.token(clock, 0))
        clock.advance(10_000)
    assert len(looked_up) == 1
    assert len(fetching()) == 1
    goes_on.set()
    until(lambda: not fetching())

    # What came after the deadline is not believed; the next fetch is.
    assert "the response took too long" in caplog.text
    assert said_of(tokens, issuer.token(clock, 0)) == ACME


def test_keys_are_fetched_over_tls(
    clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """From a server whose certificate is trusted, and from no other."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    issuer = Issuer(context)
    try:
        stranger = tokens_of(clock, Jwks.at(issuer.url), ["ES256"])
        with pytest.raises(SigningKeysUnavailable):
            said_of(stranger, issuer.token(clock, 0))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
        trusting = tokens_of(clock, Jwks.at(issuer.url), ["ES256"])

        assert said_of(trusting, issuer.token(clock, 0)) == ACME
    finally:
        issuer.close()
    assert issuer.url[:8] == "https://"
    assert "CERTIFICATE_VERIFY_FAILED" in caplog.text


def test_the_api_answers_503(
    issuer: Issuer, at_url: AccessTokens, clock: ManualClock, service: Any, limiter: Any
) -> None:
    """Without keys to verify tokens with, a call is a 503 of its own, and an error in the log."""
    from tests.management.conftest import PLANS, Client

    from awx_ratelimit.management import ManagementApi

    issuer.answer = (503, b"", {})
    client = Client(ManagementApi(service, at_url, limiter=limiter, plans=PLANS), issuer.token(clock, 0))
    answer = client("GET", "/api-keys")

    assert answer.status == 503
    assert answer.code == "signing_keys_unavailable"


def test_who_has_keys_does_not_wait(issuer: Issuer, at_url: AccessTokens, clock: ManualClock) -> None:
    """While one thread fetches the set anew, others go on with the one that there is."""
    said_of(at_url, issuer.token(clock, 0))
    clock.advance(300_000)
    issuer.open.clear()
    threads, said = said_in_threads(at_url, issuer.token(clock, 0), 1)
    until(lambda: issuer.asked == 2)

    assert said_of(at_url, issuer.token(clock, 0)) == ACME
    assert said == []
    issuer.open.set()
    threads[0].join()
    assert said == [ACME]
