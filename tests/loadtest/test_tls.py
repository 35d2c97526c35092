"""Gateways behind TLS: whose certificate is trusted, and what is said of one that is not."""

import json
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from tests.loadtest.commands import ended, started
from tests.loadtest.hostile import hostile

KEY = {"AWX_LOADTEST_KEY": "a_key_of_the_test"}
RATES = ("--rate", "1000/2 second", "--quiet", "--profiles", "over", "--seconds", "3")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Nobody has heard of it."""
    return trustme.CA()


@pytest.fixture
def url(authority: trustme.CA, request: pytest.FixtureRequest) -> Iterator[str]:
    """A server whose certificate is for 127.0.0.1, or for what the test says."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(getattr(request, "param", "127.0.0.1")).configure_cert(context)
    with hostile(context) as (plain, _):
        yield plain.replace("http://", "https://")


def verdict(words: tuple[str, ...], folder: Path, **environment: str) -> tuple[int, str, str]:
    """The status, and what is said of answers."""
    told = folder / "told.json"
    with started(*words, *RATES, "--json", str(told), **KEY, **environment) as process:
        status, said = ended(process)
    first = json.loads(told.read_text())["verdicts"][0]

    assert "Traceback" not in said
    return status, first["verdict"], first["detail"]


def test_a_certificate_of_nobody_is_not_trusted(url: str, tmp_path: Path) -> None:
    """No request is sent, and no key; it is said what is to be done."""
    status, mark, detail = verdict((url, "--path", "/fine"), tmp_path)

    assert (status, mark, "its certificate is not trusted: " in detail, "SSL_CERT_FILE" in detail) == (
        1, "failed", True, True,
    ), detail  # fmt: skip


def test_whom_to_trust_is_said_by_a_file(url: str, authority: trustme.CA, tmp_path: Path) -> None:
    """SSL_CERT_FILE names it; what is then audited is the gateway."""
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(path)

    status, mark, detail = verdict((url, "--path", "/fine"), tmp_path, SSL_CERT_FILE=str(path))

    assert (status, mark) == (0, "passed"), detail


@pytest.mark.parametrize("url", ["gateway.example"], indirect=True)
def test_a_certificate_of_another_host_is_not_trusted(url: str, authority: trustme.CA, tmp_path: Path) -> None:
    """Whoever signed it."""
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(path)
    status, mark, detail = verdict((url, "--path", "/fine"), tmp_path, SSL_CERT_FILE=str(path))

    assert (status, mark, "not valid for '127.0.0.1'" in detail) == (1, "failed", True), detail


def test_no_tls_where_it_was_expected(tmp_path: Path) -> None:
    """A server of plain HTTP."""
    with hostile() as (plain, _):
        status, mark, detail = verdict((plain.replace("http://", "https://"),), tmp_path)

    assert (status, mark, "no TLS connection could be made" in detail) == (1, "failed", True), detail
