"""The command ``awx-ratelimit loadtest`` in its own process."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

COMMAND = Path(sys.executable).with_name("awx-ratelimit")
KINDS = ("json", "junit", "html")
RATES = ("--rate", "10/2 second", "--slots", "3", "--quiet")
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("AWX_")}


@contextmanager
def running(*words: str, command: str = "loadtest", **environment: str) -> "Iterator[subprocess.Popen[str]]":
    """Run the command. It receives Ctrl-C even if the tests run in the background, where a shell ignores SIGINT."""
    process = subprocess.Popen(
        ["env", "--default-signal=INT", COMMAND, command, *words], env={**ENVIRONMENT, **environment}, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def wait_for_end(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Wait for the process to end; returns its status and its output."""
    out, err = process.communicate(timeout=100)
    return process.returncode, out + err


def read_until(process: "subprocess.Popen[str]", word: str) -> str:
    """Read the process's stderr until it contains `word`; returns what was read."""
    assert process.stderr is not None
    output = ""
    while word not in output:
        line = process.stderr.readline()
        assert line, output
        output += line
    return output


def children(pid: int) -> list[int]:
    """The process ids of a process's children."""
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    """Whether the process exists."""
    return Path(f"/proc/{pid}").exists()


class ReportPaths(NamedTuple):
    """Where a command writes its reports."""

    folder: Path

    @property
    def options(self) -> tuple[str, ...]:
        """The command-line options for all reports."""
        return tuple(word for kind in KINDS for word in (f"--{kind}", str(self.folder / kind)))

    def read(self) -> tuple[str, str, str]:
        """The texts of the reports: JSON, JUnit XML, HTML."""
        json, junit, html = ((self.folder / kind).read_text() for kind in KINDS)
        return json, junit, html
