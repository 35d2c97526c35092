"""``awx-ratelimit scan``: find API keys in files and pipes, for pre-commit hooks and CI.

Only text with the checksum of a key is reported, so there are no false alarms. Keys are printed masked.
"""

import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import chain
from pathlib import Path
from typing import Annotated, BinaryIO, Final, NamedTuple

import typer

from awx_ratelimit.cli import output
from awx_ratelimit.keys import KeyFinder
from awx_ratelimit.keys.format import MAX_KEY_BYTES

FOUND, ERROR = 1, 2
_CHUNK_BYTES: Final = 1 << 20
_STDIN = Path("-")
#: Folders with compressed copies of scanned files, or with code of others.
_SKIPPED_FOLDERS: Final = frozenset((".git", ".hg", ".venv", "node_modules", "__pycache__"))


class Match(NamedTuple):
    """A key in a file. Lines are counted from 1."""

    path: str
    line: int
    masked: str


def scan(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Files and folders. '-' or no path: standard input.")
    ] = None,
    *,
    prefix: Annotated[
        list[str] | None, typer.Option(help="Prefix of the keys, instead of awx_. Repeat for more.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Find API keys in files, folders or standard input. Keys are printed masked.

    The exit status is 1 if a key was found, 2 if none was found but a path could not be read, and 0 otherwise.
    """
    finder = KeyFinder(prefix) if prefix else KeyFinder()
    matches: list[Match] = []
    unreadable: list[str] = []

    def report_unreadable(path: Path, error: OSError) -> None:
        unreadable.append(str(path))
        output.say(f"error: {path}: {error.strerror}")

    for path in chain.from_iterable(_files(root, report_unreadable) for root in paths or [_STDIN]):
        try:
            with nullcontext(sys.stdin.buffer) if path == _STDIN else path.open("rb") as file:
                matches_here = list(_search(str(path), file, finder))
        except OSError as error:
            report_unreadable(path, error)
            continue
        matches += matches_here
        for match in [] if json else matches_here:
            output.print_line(f"{match.path}:{match.line}: {match.masked}")
    if json:
        document = {"found": [match._asdict() for match in matches]}
        output.print_json({**document, "unreadable": unreadable} if unreadable else document)
    return FOUND if matches else ERROR if unreadable else 0


_OnError = Callable[[Path, OSError], None]


def _files(root: Path, on_error: _OnError) -> Iterator[Path]:
    """`root`, or the files in and below it, in order. Unreadable paths are reported and skipped."""
    # Not recursive, because folders may be nested deeper than Python's recursion limit.
    pending = [root]
    while pending:
        path = pending.pop()
        try:
            # Links are not followed: a link may lead out of the folder, or in a circle.
            mode = 0 if root == _STDIN else (path.stat() if path is root else path.lstat()).st_mode
            if stat.S_ISDIR(mode):
                if path is root or path.name not in _SKIPPED_FOLDERS:
                    pending += sorted(path.iterdir(), reverse=True)
            elif path is root or stat.S_ISREG(mode):
                yield path
        except OSError as error:
            on_error(path, error)


def _search(path: str, file: BinaryIO, finder: KeyFinder) -> Iterator[Match]:
    """Search line by line, and long lines in chunks that overlap by more than a key.

    NUL bytes are removed, which turns a key in UTF-16 or UTF-32, of any byte order, into ASCII.
    """
    line, overlap = 1, b""
    while chunk := file.readline(_CHUNK_BYTES):
        text = overlap + chunk.replace(b"\0", b"")
        for key in finder.find(text.decode("latin-1")):
            # A key that ends in the overlap was found in the previous chunk.
            if key.end > len(overlap):
                yield Match(path, line, str(key.secret))
        line, overlap = (line + 1, b"") if chunk.endswith(b"\n") else (line, text[-MAX_KEY_BYTES:])
