"""The keys of an issuer at a URL: fetched when they are needed and when they may have changed, at nobody's bidding."""

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests.keys.management.conftest import claims, signed
from tests.keys.management.test_tokens import INVALID, jwk_of, said_of, tokens_of

from awx_ratelimit.errors import SigningKeysUnavailable
from awx_ratelimit.management import AccessTokens, Jwks, Owner
from awx_ratelimit.testing import ManualClock

ACME = Owner("acme", "acme")


class Issuer:
    """Publishes keys on a real server of this machine."""

    def __init__(self) -> None:
        self.keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(3)]
        self.answer: tuple[int, bytes, dict[str, str]] = (200, b"", {})
        self.asked = 0
        self.drips = False
        #: What is answered at any other path.
        self.elsewhere = self._document(1)
        self.publish(0)
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked += 1
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
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/keys"
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def publish(self, *numbers: int) -> None:
        """Have these keys in the set, and no others."""
        self.answer = (200, self._document(*numbers), {})

    def _document(self, *numbers: int) -> bytes:
        members = [jwk_of(self.keys[number], f"k{number}") for number in numbers]
        return json.dumps({"keys": members}).encode()

    def drip(self, file: Any) -> None:
        """Send white space, now and then, for longer than anybody should wait."""
        for _ in range(200):
            file.write(b" ")
            time.sleep(0.02)

    def token(self, clock: ManualClock, number: int, kid: str | None = None) -> str:
        """A token that is signed with one of them."""
        return signed(claims(clock), self.keys[number], "ES256", kid=kid or f"k{number}")

    def close(self) -> None:
        """End the server."""
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
    return tokens_of(clock, Jwks.at(issuer.url, clock=lambda: clock.now_ms() / 1000), ["ES256"], most_lifetime_s=10**6)


def test_keys_are_fetched_once(issuer: Issuer, at_url: AccessTokens, clock: ManualClock) -> None:
    """Not before a token comes, and then not for every token."""
    before = issuer.asked
    said = [said_of(at_url, issuer.token(clock, 0)) for _ in range(3)]

    assert (before, said, issuer.asked) == (0, [ACME] * 3, 1)


def test_a_key_that_is_new_is_found(issuer: Issuer, at_url: AccessTokens, clock: ManualClock) -> None:
    """A token that names an unknown key has the set fetched again, and one of a key that was withdrawn is refused."""
    said_of(at_url, issuer.token(clock, 0))
    issuer.publish(1)
    clock.advance(10_000)

    assert ([said_of(at_url, issuer.token(clock, number)) for number in (1, 0)], issuer.asked) == ([ACME, INVALID], 2)


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

    assert (still, said_of(at_url, issuer.token(clock, 0))) == (ACME, INVALID)


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
    with pytest.raises(SigningKeysUnavailable, match="could not be had"):
        said_of(at_url, issuer.token(clock, 0))

    assert (remembered, "could not be fetched" in caplog.text) == (ACME, True)


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

    assert (asked, said_of(at_url, issuer.token(clock, 0))) == (1, ACME)


def test_an_answer_that_drips_is_none(issuer: Issuer, clock: ManualClock) -> None:
    """An issuer that sends a byte now and then holds nobody for much longer than the timeout."""
    issuer.drips = True
    tokens = tokens_of(clock, Jwks.at(issuer.url, timeout_s=0.3), ["ES256"])
    began_s = time.monotonic()
    with pytest.raises(SigningKeysUnavailable):
        said_of(tokens, issuer.token(clock, 0))

    assert time.monotonic() - began_s < 2.0


def test_the_api_answers_503(
    issuer: Issuer, at_url: AccessTokens, clock: ManualClock, service: Any, limiter: Any
) -> None:
    """Without keys to verify tokens with, a call is a 503 of its own, and an error in the log."""
    from tests.keys.management.conftest import PLANS, Client

    from awx_ratelimit.management import ManagementApi

    issuer.answer = (503, b"", {})
    client = Client(ManagementApi(service, at_url, limiter=limiter, plans=PLANS), issuer.token(clock, 0))
    answer = client("GET", "/api-keys")

    assert (answer.status, answer.code) == (503, "signing_keys_unavailable")


def test_who_has_keys_does_not_wait(issuer: Issuer, at_url: AccessTokens, clock: ManualClock) -> None:
    """While one thread fetches the set anew, others go on with the one that there is."""
    said_of(at_url, issuer.token(clock, 0))
    clock.advance(300_000)
    lock: Any = at_url._keys
    with lock._lock:
        assert said_of(at_url, issuer.token(clock, 0)) == ACME
