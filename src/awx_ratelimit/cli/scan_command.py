"""``awx-ratelimit scan``: keys in files, and in what comes through a pipe; for hooks before a commit, and for CI.

What is found has the check of a key, so that there is no false alarm. It is shown masked, with the place.
"""

import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, BinaryIO, Final, NamedTuple

import typer

from awx_ratelimit.cli import output
from awx_ratelimit.keys import KeyFinder
from awx_ratelimit.keys.format import MAX_KEY_BYTES

FOUND, ERROR = 1, 2
_PIECE_BYTES: Final = 1 << 20
_STDIN = Path("-")
#: What holds compressed copies of what is scanned anyway, or nothing of one's own.
_NOT_ENTERED: Final = frozenset((".git", ".hg", ".venv", "node_modules", "__pycache__"))


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
    """Search files, folders or stdin for API keys. No key is printed.

    The status is 1 if there is a key, else 2 if anything could not be read, else 0.
    """
    finder = KeyFinder(prefix) if prefix else KeyFinder()
    found: list[Place] = []
    unreadable: list[str] = []

    def note(path: Path, error: OSError) -> None:
        unreadable.append(str(path))
        output.say(f"error: {path}: {error.strerror}")

    for path in _files(paths or [_STDIN], note):
        try:
            places = list(_places(path, finder))
        except OSError as error:
            note(path, error)
            continue
        found += places
        for place in [] if json else places:
            output.print_line(f"{place.path}:{place.line}: {place.masked}")
    if json:
        answer = {"found": [place._asdict() for place in found]}
        output.print_json({**answer, "unreadable": unreadable} if unreadable else answer)
    return FOUND if found else ERROR if unreadable else 0


def _files(paths: list[Path], note: Callable[[Path, OSError], None]) -> Iterator[Path]:
    """The files at and below `paths`, in order; what cannot be looked into is noted, and the rest goes on."""
    for path in paths:
        try:
            is_folder = path.is_dir()
        except OSError as error:
            note(path, error)
            continue
        if is_folder:
            yield from _below(path, note)
        else:
            yield path


def _below(folder: Path, note: Callable[[Path, OSError], None]) -> Iterator[Path]:
    # However deep folders lie: so no function that calls itself.
    left = [folder]
    while left:
        path = left.pop()
        try:
            # What a link leads to is scanned where it is.
            mode = (path.stat() if path is folder else path.lstat()).st_mode
            if stat.S_ISREG(mode):
                yield path
            elif stat.S_ISDIR(mode) and (path is folder or path.name not in _NOT_ENTERED):
                left += sorted(path.iterdir(), reverse=True)
        except OSError as error:
            note(path, error)


def _places(path: Path, finder: KeyFinder) -> Iterator[Place]:
    if path == _STDIN:
        yield from _in_lines("-", sys.stdin.buffer, finder)
        return
    with path.open("rb") as file:
        yield from _in_lines(str(path), file, finder)


def _in_lines(path: str, file: BinaryIO, finder: KeyFinder) -> Iterator[Place]:
    """Line by line, and a long line in pieces that overlap by more than a key.

    Without its NUL bytes, UTF-16 and UTF-32 of any order are ASCII where a key stands, with a byte order mark or not.
    """
    number, kept = 1, b""
    while piece := file.readline(_PIECE_BYTES):
        text = kept + piece.replace(b"\0", b"")
        for key in finder.find(text.decode("latin-1")):
            # What ends in the part that was kept was found with the piece before.
            if key.end > len(kept):
                yield Place(path, number, str(key.secret))
        number, kept = (number + 1, b"") if piece.endswith(b"\n") else (number, text[-MAX_KEY_BYTES:])
