"""Gateways behind TLS: which certificates are trusted, and the errors for those that are not."""

import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme
from tests.loadtest.commands import running, wait_for_end
from tests.loadtest.conftest import Servers, scenarios
from tests.loadtest.hostile import hostile
from tests.loadtest.load.test_hostile import Prober

from awx_ratelimit.loadtest.audit.observation import Outcome


@contextmanager
def private(host: str, authority_path: Path) -> Iterator[tuple[str, list[bytes]]]:
    """A server with a certificate for `host` from a private authority, which is written to `authority_path`."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host).configure_cert(context)
    authority.cert_pem.write_to_path(authority_path)
    with hostile(context) as (url, requests):
        yield url.replace("http://", "https://"), requests


def test_unknown_authority_is_not_trusted(tmp_path: Path) -> None:
    """No request reaches a server with an untrusted certificate, and the error names the remedy."""
    with private("127.0.0.1", tmp_path / "authority.pem") as (url, requests):
        (failed,) = Prober(url, requests).report("/fine").failed

    assert "the certificate is not trusted: " in failed.detail
    assert "SSL_CERT_FILE" in failed.detail
    assert requests == []


def test_certificate_of_another_host_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trusted authority's certificate for another host is rejected."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    with private("gateway.example", tmp_path / "authority.pem") as (url, requests):
        one = Prober(url, requests)("/fine")

    assert "not valid for '127.0.0.1'" in one.error
    assert requests == []


@pytest.mark.parametrize("held", ["", "streams", "websockets"])
def test_every_kind_of_request_works_over_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: str) -> None:
    """Plain requests, streams and WebSockets work over TLS."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    with private("127.0.0.1", tmp_path / "authority.pem") as (url, requests):
        one = Prober(url, requests)("/feed-greets" if held == "websockets" else "/fine", held=held)

    assert one.outcome == Outcome.ADMITTED
    assert one.error == ""


def test_plain_http_server_behind_https_url() -> None:
    """A server that speaks plain HTTP on an https:// URL is a failed handshake."""
    with hostile() as (url, requests):
        one = Prober(url.replace("http://", "https://"), requests)("/fine")

    assert "the TLS handshake failed" in one.error


def trusted(_: Servers, folder: Path) -> tuple[int, str, str]:
    """The whole command, with the private authority in SSL_CERT_FILE."""
    report = folder / "report.json"
    words = ("--path", "/fine", "--rate", "1000/2 second", "--quiet", "--profiles", "over", "--seconds", "3")
    with (
        private("127.0.0.1", folder / "authority.pem") as (url, _requests),
        running(url, *words, "--json", str(report), SSL_CERT_FILE=str(folder / "authority.pem")) as process,
    ):
        status, output = wait_for_end(process)
    return status, output, json.loads(report.read_text())["verdicts"][0]["verdict"]


@scenarios(trusted)
def test_ssl_cert_file_adds_an_authority(outcome: tuple[int, str, str]) -> None:
    """The command trusts the authorities in SSL_CERT_FILE."""
    status, output, result = outcome

    assert status == 0, output
    assert result == "passed", output
    assert "Traceback" not in output, output
