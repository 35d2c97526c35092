"""The examples of docs/tasks.md and docs/testing.md do what the pages say."""

from pathlib import Path
from typing import Any

import pytest
from tests.docs.pages import blocks, run_text
from tests.pytest_runs import run_pytest

from awx_ratelimit import RateLimited

#: Long random schedules belong to the tests of the backends. tests/docs/test_django_page.py runs those of a project.
_QUICK = "not equals_the_model and not AgentTests and not LimitTests"


def without_server(page: str) -> dict[str, Any]:
    """The names of a page, with limits in memory in place of Redis."""
    text = "".join(blocks(page, "python"))
    for opener in ("open_backend", "open_async_backend"):
        text = text.replace(f'{opener}("redis://localhost:6379")', "MemoryBackend()")
    return run_text(text)


def test_functions(capsys: pytest.CaptureFixture[str]) -> None:
    """The third call for an address is refused with the message of the page; another address is not."""
    names = without_server("docs/tasks.md")
    (shown,) = [
        line.partition("# ")[2] for line in blocks("docs/tasks.md", "python")[0].splitlines() if "# Too" in line
    ]

    assert capsys.readouterr().out.splitlines()[0] == shown
    assert names["send"]("bob@example.com", "hello") == "to bob@example.com: hello"
    with pytest.raises(RateLimited):
        names["send"]("ada@example.com", "hello")


def test_tasks() -> None:
    """The task of the page is limited by its address."""
    send = without_server("docs/tasks.md")["send_mail"]
    for _ in range(100):
        send("ada@example.com")

    send("bob@example.com")
    with pytest.raises(RateLimited, match="Too many calls of send_mail"):
        send("ada@example.com")


def test_interceptors() -> None:
    """The interceptors of the page exempt the health check."""
    gate = without_server("docs/tasks.md")["plain"].gate

    assert gate.is_exempt("POST", "/grpc.health.v1.Health/Check")
    assert not gate.is_exempt("POST", "/shop.Orders/Create")


def test_tests_of_an_app(tmp_path: Path) -> None:
    """The tests of the page pass."""
    (tmp_path / "test_page.py").write_text("".join(blocks("docs/testing.md", "python")))
    done = run_pytest(tmp_path, "-k", _QUICK)

    assert done.returncode == 0, done.stdout
    assert "skipped" not in done.stdout
