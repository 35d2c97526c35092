"""``awx-ratelimit scan``: keys in files, and in what comes through a pipe; for hooks before a commit, and for CI.

What is found has the check of a key, so that there is no false alarm. It is shown masked, with the place.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO, Final, NamedTuple

import typer

from awx_ratelimit.cli import output
from awx_ratelimit.keys import KeyFinder
from awx_ratelimit.keys.format import MOST_BYTES

FOUND, ERROR = 1, 2
_PIECE_BYTES: Final = 1 << 20
_STDIN = Path("-")
#: What holds compressed copies of what is scanned anyway, or nothing of one's own.
_NOT_ENTERED: Final = frozenset((".git", ".hg", ".venv", "node_modules", "__pycache__"))
_UTF_16 = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}


class Place(NamedTuple):
    """Where a key stands. Lines are counted from 1."""

    path: str
    line: int
    masked: str


def scan(
    paths: Annotated[list[Path] | None, typer.Argument(help="Files and folders; '-' or none is stdin.")] = None,
    *,
    prefix: Annotated[list[str] | None, typer.Option(help="How keys begin, if not with awx_; again for more.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Search files, folders or stdin for API keys; status 1 where there is one. No key is printed."""
    finder = KeyFinder(prefix) if prefix else KeyFinder()
    found: list[Place] = []
    unread = 0
    for path in _files(paths or [_STDIN]):
        try:
            places = list(_places(path, finder))
        except OSError as error:
            unread += 1
            output.say(f"error: {path}: {error.strerror}")
            continue
        found += places
        for place in [] if json else places:
            output.print_line(f"{place.path}:{place.line}: {place.masked}")
    if json:
        output.print_json({"found": [place._asdict() for place in found]})
    return ERROR if unread else FOUND if found else 0


def _files(paths: list[Path]) -> Iterator[Path]:
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        for inner in sorted(path.iterdir()):
            # What a link leads to is scanned where it is.
            if inner.is_symlink() or (inner.is_dir() and inner.name in _NOT_ENTERED):
                continue
            if inner.is_dir():
                yield from _files([inner])
            elif inner.is_file():
                yield inner


def _places(path: Path, finder: KeyFinder) -> Iterator[Place]:
    if path == _STDIN:
        yield from _in_lines("-", sys.stdin.buffer, finder)
        return
    with path.open("rb") as file:
        yield from _in_lines(str(path), file, finder)


def _in_lines(path: str, file: BinaryIO, finder: KeyFinder) -> Iterator[Place]:
    """Line by line, and a long line in pieces that overlap by more than a key."""
    first = file.readline(_PIECE_BYTES)
    encoding = _UTF_16.get(first[:2])
    if encoding is not None:
        text = (first + file.read()).decode(encoding, "replace")
        for number, line in enumerate(text.split("\n"), start=1):
            yield from (Place(path, number, str(key.secret)) for key in finder.find(line))
        return
    number, kept, piece = 1, b"", first
    while piece:
        text = (kept + piece).decode("latin-1")
        for key in finder.find(text):
            # What ends in the part that was kept was found with the piece before.
            if key.end > len(kept):
                yield Place(path, number, str(key.secret))
        ended = piece.endswith(b"\n")
        number, kept = (number + 1, b"") if ended else (number, (kept + piece)[-MOST_BYTES:])
        piece = file.readline(_PIECE_BYTES)
