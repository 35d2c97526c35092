"""A program in a terminal, and what the terminal shows of it."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import time
from codecs import getincrementaldecoder
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from select import select

from playwright.sync_api import Browser
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

COLUMNS, ROWS = 84, 80
_CONTROL = re.compile(r"\x1b\[(\??[\d;]*)([A-Za-z])")
_BACKGROUND, _TEXT = (20, 24, 31), (222, 227, 235)
_RED, _GREEN, _YELLOW = (255, 123, 114), (111, 214, 160), (245, 178, 103)
_BLUE, _MAGENTA, _CYAN = (122, 167, 255), (195, 160, 255), (110, 205, 225)
_DARK = TerminalTheme(_BACKGROUND, _TEXT, [_BACKGROUND, _RED, _GREEN, _YELLOW, _BLUE, _MAGENTA, _CYAN, _TEXT])
_PAGE = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0 }}
main {{ display: inline-block; padding: 18px 24px; background: {background}; color: {foreground} }}
pre {{ margin: 0; font: 13px/1.35 "DejaVu Sans Mono", monospace }}
</style><main><pre>{code}</pre></main>"""


class Screen:
    """The lines that a terminal shows. It knows what rich writes: colours, lines up, and lines that are erased."""

    def __init__(self) -> None:
        self._lines = [""]
        self._row = 0

    def feed(self, output: str) -> None:
        """Show more output. Escape sequences must be whole."""
        at = 0
        for match in _CONTROL.finditer(output):
            self._write(output[at : match.start()])
            self._control(match[1], match[2], match[0])
            at = match.end()
        self._write(output[at:])

    def text(self) -> str:
        """The lines, with their colours."""
        return "\n".join(self._lines)

    def _control(self, number: str, action: str, sequence: str) -> None:
        if action == "A":
            self._row = max(0, self._row - int(number or 1))
        elif action == "K":
            self._lines[self._row] = ""
        elif action == "m":
            self._lines[self._row] += sequence

    def _write(self, text: str) -> None:
        first, *others = text.replace("\r", "").split("\n")
        self._lines[self._row] += first
        for line in others:
            self._row += 1
            if self._row == len(self._lines):
                self._lines.append("")
            self._lines[self._row] += line


class Terminal:
    """A running program, and its output so far."""

    def __init__(self, master: int) -> None:
        self._master = master
        self._decoder = getincrementaldecoder("utf-8")()
        self.output = ""

    def read_until(self, text: str, seconds: float) -> str:
        """The output up to now, which contains `text`. Raises TimeoutError after `seconds`."""
        until = time.monotonic() + seconds
        while text not in self.output:
            ready, _, _ = select([self._master], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise TimeoutError(f"the program did not print {text!r}, but {self.output[-2000:]}")
            self.output += self._decoder.decode(os.read(self._master, 65_536))
        return self.output


@contextmanager
def running_in_terminal(command: Sequence[str], folder: Path) -> Iterator[Terminal]:
    """Run a program in a terminal of its own, and interrupt it at the end."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    os.close(slave)
    try:
        yield Terminal(master)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)
        os.close(master)


def as_page(text: str) -> str:
    """A page with the text of a terminal, in its colours."""
    console = Console(record=True, file=StringIO(), width=COLUMNS, force_terminal=True, color_system="truecolor")
    console.print(Text.from_ansi(text))
    return console.export_html(theme=_DARK, code_format=_PAGE, inline_styles=True)


def picture(browser: Browser, text: str) -> bytes:
    """The text of a terminal as a picture."""
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.set_content(as_page(text))
    taken = page.locator("main").screenshot()
    page.close()
    return taken
