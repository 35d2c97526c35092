"""The live view on terminals of several sizes, and the report's page in a browser."""

import os
import pty
import re
import struct
import subprocess
from datetime import UTC, datetime
from fcntl import ioctl
from functools import partial
from pathlib import Path
from termios import TIOCSWINSZ

import pytest
from tests.loadtest.commands import COMMAND, ENVIRONMENT
from tests.loadtest.conftest import Servers, scenarios
from tests.loadtest.observations import BURST_S, PLAN, admitted, refused

from awx_ratelimit.cli import output
from awx_ratelimit.loadtest.report.html import as_html
from awx_ratelimit.loadtest.report.results import Report
from awx_ratelimit.loadtest.run_config import RunConfig
from awx_ratelimit.loadtest.runner import RunRecord

RATES = ("--rate", "10/2 second", "--profiles", "burst,over")


def draw(url: str, columns: int, rows: int, **environment: str) -> str:
    """Run the command on a terminal; returns everything that it writes to the terminal."""
    ours, its = pty.openpty()
    ioctl(its, TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    given = {**ENVIRONMENT, "TERM": "xterm", "AWX_LOADTEST_KEY": "awx_test_key_3", **environment}
    given = {name: value for name, value in given.items() if name not in {"COLUMNS", "LINES"}}
    process = subprocess.Popen([COMMAND, "loadtest", url, *RATES], env=given, stdin=its, stdout=its, stderr=its)
    os.close(its)
    drawn = b""
    while True:
        try:
            drawn += (more := os.read(ours, 65_536))
        except OSError:
            # Linux reports EIO when the last process has closed the terminal.
            break
        assert more
    os.close(ours)
    process.wait(10)
    return drawn.decode()


def lines(text: str) -> list[str]:
    """The drawn lines, without escape sequences."""
    return [line.rstrip("\r") for line in re.sub(r"\x1b\[[?\d;]*[A-Za-z]|\r(?!\n)", "\n", text).split("\n")]


def run_on_terminal(columns: int, rows: int, servers: Servers, _: Path) -> tuple[int, str]:
    """A run on a terminal of this size; without colours if it is narrow."""
    colours = {"NO_COLOR": "1"} if columns < 80 else {}
    return columns, draw(f"{servers.url('gateways')}/honest-{columns // 10}", columns, rows, **colours)


@scenarios(partial(run_on_terminal, 80, 24), partial(run_on_terminal, 40, 10))
def test_view_fits_its_terminal(outcome: tuple[int, str]) -> None:
    """No line wraps, the screen is not cleared, and colours follow NO_COLOR."""
    columns, text = outcome

    assert max(map(len, lines(text))) <= columns
    assert "profile 2 of 2" in text
    assert "\x1b[2J" not in text
    assert "passed" in text
    assert ("\x1b[32m" in text) == (columns == 80)


@pytest.mark.parametrize(("term", "expected"), [("xterm", True), ("dumb", False)])
def test_dumb_terminal_has_no_live_view(monkeypatch: pytest.MonkeyPatch, term: str, expected: bool) -> None:
    """The live view needs a terminal that can redraw lines."""
    ours, its = pty.openpty()
    with os.fdopen(its, "w") as terminal:
        monkeypatch.setattr("sys.stderr", terminal)
        monkeypatch.setenv("TERM", term)
        live = output.is_live()
    os.close(ours)

    assert live == expected


def test_page_on_a_phone(tmp_path: Path) -> None:
    """The page fits a phone's screen, has a dark mode, and loads nothing."""
    from tests.browser.chromium import chromium

    observations = [*map(admitted, BURST_S), *(refused(0.1 + n / 10, body="x" * 500) for n in range(9))]
    page = tmp_path / "a.html"
    report = Report.of_run(RunConfig("http://" + "a-long-name." * 9, PLAN), datetime.now(UTC), RunRecord(observations))
    page.write_text(as_html(report))
    with chromium() as browser:
        shown = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme="dark")
        loaded: list[str] = []
        shown.on("request", lambda request: loaded.append(request.url))
        shown.goto(page.as_uri())
        width = shown.evaluate("document.documentElement.scrollWidth")
        back = shown.evaluate("getComputedStyle(document.body).backgroundColor")

    assert width == 390
    assert back == "rgb(18, 22, 29)"
    assert loaded == [page.as_uri()]
