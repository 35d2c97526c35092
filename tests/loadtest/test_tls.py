"""Gateways behind TLS: whose certificate is trusted, and what is said of one that is not."""

import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme
from tests.loadtest.commands import ended, started
from tests.loadtest.conftest import Servers, begun
from tests.loadtest.hostile import hostile
from tests.loadtest.test_hostile import Asked

from awx_ratelimit.loadtest.audit.observation import Outcome


@contextmanager
def private(host: str, authority_path: Path) -> Iterator[tuple[str, list[bytes]]]:
    """A server whose certificate is for `host`, by an authority that nobody has heard of, and that is in the file."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host).configure_cert(context)
    authority.cert_pem.write_to_path(authority_path)
    with hostile(context) as (url, requests):
        yield url.replace("http://", "https://"), requests


def test_a_certificate_of_nobody_is_not_trusted(tmp_path: Path) -> None:
    """No request is sent, and no key; it is said what is to be done."""
    with private("127.0.0.1", tmp_path / "authority.pem") as (url, requests):
        (failed,) = Asked(url, requests).report("/fine").failed

    assert "the certificate is not trusted: " in failed.detail
    assert "SSL_CERT_FILE" in failed.detail
    assert requests == []


def test_a_certificate_of_another_host_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever signed it."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    with private("gateway.example", tmp_path / "authority.pem") as (url, requests):
        one = Asked(url, requests)("/fine")

    assert "not valid for '127.0.0.1'" in one.error
    assert requests == []


@pytest.mark.parametrize("held", ["", "streams", "websockets"])
def test_all_that_is_asked_is_asked_over_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: str) -> None:
    """Requests, streams and WebSockets."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    with private("127.0.0.1", tmp_path / "authority.pem") as (url, requests):
        one = Asked(url, requests)("/feed-greets" if held == "websockets" else "/fine", held=held)

    assert one.outcome == Outcome.ADMITTED
    assert one.error == ""


def test_no_tls_where_it_was_expected() -> None:
    """A server of plain HTTP: it is said in a word what is wrong."""
    with hostile() as (url, requests):
        one = Asked(url.replace("http://", "https://"), requests)("/fine")

    assert "the TLS handshake failed" in one.error


def trusted(_: Servers, folder: Path) -> tuple[int, str, str]:
    """The whole command."""
    told = folder / "told.json"
    words = ("--path", "/fine", "--rate", "1000/2 second", "--quiet", "--profiles", "over", "--seconds", "3")
    with (
        private("127.0.0.1", folder / "authority.pem") as (url, _requests),
        started(url, *words, "--json", str(told), SSL_CERT_FILE=str(folder / "authority.pem")) as process,
    ):
        status, said = ended(process)
    return status, said, json.loads(told.read_text())["verdicts"][0]["verdict"]


@begun(trusted)
def test_whom_to_trust_is_said_by_a_file(outcome: tuple[int, str, str]) -> None:
    """SSL_CERT_FILE names it; what is then audited is the gateway."""
    status, said, mark = outcome

    assert status == 0, said
    assert mark == "passed", said
    assert "Traceback" not in said, said
