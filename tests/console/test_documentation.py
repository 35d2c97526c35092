"""The consoles link to the documentation where somebody serves it."""

import pytest
from tests.console.conftest import Client

from awx_ratelimit.runtime.documentation import VARIABLE


def test_link(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each page of the console links to its page of the documentation."""
    monkeypatch.setenv(VARIABLE, "https://docs.example.com/limits")

    assert '<a href="https://docs.example.com/limits/console/">Documentation</a>' in client.get("/").text


def test_no_link(client: Client) -> None:
    """Without the address of a site there is no link."""
    assert "Documentation" not in client.get("/").text
