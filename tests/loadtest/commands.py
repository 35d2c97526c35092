"""The command in a process of its own, and what is asked of that process."""

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
def started(*words: str, command: str = "loadtest", **environment: str) -> "Iterator[subprocess.Popen[str]]":
    """The command. It hears Ctrl-C even where the tests run in the background, which ignores that signal."""
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


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Its status, and all that it said."""
    out, err = process.communicate(timeout=100)
    return process.returncode, out + err


def heard(process: "subprocess.Popen[str]", word: str) -> str:
    """What it says on stderr until `word` has come."""
    assert process.stderr is not None
    said = ""
    while word not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    return said


def children(pid: int) -> list[int]:
    """The processes that it has started."""
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def runs(pid: int) -> bool:
    """Whether there is such a process."""
    return Path(f"/proc/{pid}").exists()


class Files(NamedTuple):
    """Where a command writes its reports."""

    folder: Path

    @property
    def words(self) -> tuple[str, ...]:
        """Its options."""
        return tuple(word for kind in KINDS for word in (f"--{kind}", str(self.folder / kind)))

    def read(self) -> tuple[str, str, str]:
        """As JSON, as JUnit's XML, and as a page."""
        json, junit, html = ((self.folder / kind).read_text() for kind in KINDS)
        return json, junit, html
