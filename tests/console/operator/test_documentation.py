"""The operator's console links to its own page of the documentation."""

import pytest
from tests.console.operator.conftest import OperatorClient

from awx_ratelimit.runtime.documentation import VARIABLE


def test_link(client: OperatorClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each page links to the page about operators, where somebody serves it."""
    monkeypatch.setenv(VARIABLE, "https://docs.example.com/limits")

    assert '<a href="https://docs.example.com/limits/operators/">Documentation</a>' in client.get("/").text
