"""The live view, on a terminal of each size; and where there is none that can be drawn on."""

import os
import pty
import re
import struct
import subprocess
from fcntl import ioctl
from functools import partial
from pathlib import Path
from termios import TIOCSWINSZ

import pytest
from tests.loadtest.commands import COMMAND, ENVIRONMENT
from tests.loadtest.conftest import Servers, begun

from awx_ratelimit.cli import output

RATES = ("--rate", "10/2 second", "--profiles", "burst,over")


def drawn(url: str, columns: int, rows: int, **environment: str) -> str:
    """All that the command sends to a terminal."""
    ours, its = pty.openpty()
    ioctl(its, TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    given = {**ENVIRONMENT, "TERM": "xterm", "AWX_LOADTEST_KEY": "awx_test_key_3", **environment}
    given = {name: value for name, value in given.items() if name not in {"COLUMNS", "LINES"}}
    process = subprocess.Popen([COMMAND, "loadtest", url, *RATES], env=given, stdin=its, stdout=its, stderr=its)
    os.close(its)
    said = b""
    while True:
        try:
            said += (more := os.read(ours, 65_536))
        except OSError:
            # A terminal that nobody has open any more.
            break
        assert more
    os.close(ours)
    process.wait(10)
    return said.decode()


def lines(text: str) -> list[str]:
    """What is drawn, without what moves the cursor and colours."""
    return [line.rstrip("\r") for line in re.sub(r"\x1b\[[?\d;]*[A-Za-z]|\r(?!\n)", "\n", text).split("\n")]


def sized(columns: int, rows: int, servers: Servers, _: Path) -> tuple[int, str]:
    """On a terminal of that size; without colours where it is small."""
    colours = {"NO_COLOR": "1"} if columns < 80 else {}
    return columns, drawn(f"{servers.url('gateways')}/honest-{columns // 10}", columns, rows, **colours)


@begun(partial(sized, 80, 24), partial(sized, 40, 10))
def test_a_view_is_no_wider_than_its_terminal(outcome: tuple[int, str]) -> None:
    """Nothing wraps, so that what is drawn again is where it was; what is under way is seen; colours as it has them."""
    columns, text = outcome

    assert max(map(len, lines(text))) <= columns
    assert "profile 2 of 2" in text
    assert "\x1b[2J" not in text
    assert "passed" in text
    assert ("\x1b[32m" in text) == (columns == 80)


@pytest.mark.parametrize(("term", "expected"), [("xterm", True), ("dumb", False)])
def test_a_terminal_that_cannot_be_drawn_on_gets_lines(
    monkeypatch: pytest.MonkeyPatch, term: str, expected: bool
) -> None:
    """There is no live view where nothing can be drawn again."""
    ours, its = pty.openpty()
    with os.fdopen(its, "w") as terminal:
        monkeypatch.setattr("sys.stderr", terminal)
        monkeypatch.setenv("TERM", term)
        live = output.is_live()
    os.close(ours)

    assert live == expected


def test_a_page_is_read_on_a_phone(tmp_path: Path) -> None:
    """It is no wider than that, and as readable in the dark."""
    from datetime import UTC, datetime

    from tests.browser.chromium import chromium
    from tests.loadtest.test_audit import PLAN, USED_S, let_in, refused

    from awx_ratelimit.loadtest.report.html import as_html
    from awx_ratelimit.loadtest.report.results import Report
    from awx_ratelimit.loadtest.run_config import RunConfig

    seen = [*map(let_in, USED_S), *(refused(0.1 + n / 10, body="x" * 500) for n in range(9))]
    page = tmp_path / "a.html"
    page.write_text(as_html(Report.of_run(RunConfig("http://" + "a-long-name." * 9, PLAN), datetime.now(UTC), seen)))
    with chromium() as browser:
        shown = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme="dark")
        asked: list[str] = []
        shown.on("request", lambda request: asked.append(request.url))
        shown.goto(page.as_uri())
        width = shown.evaluate("document.documentElement.scrollWidth")
        back = shown.evaluate("getComputedStyle(document.body).backgroundColor")

    assert width == 390
    assert back == "rgb(18, 22, 29)"
    assert asked == [page.as_uri()]
