"""Finds an interpreter for each version of Python that gets a compiled wheel."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

_FIND = Path(__file__).parents[1] / "find_python.sh"


def find(versions: Sequence[str], *, complete: bool) -> dict[str, str]:
    """The path of an interpreter for each version.

    A version without one is printed and left out. With `complete`, and if no version has one, it raises SystemExit.
    """
    found = {version: _path(version) for version in versions}
    missing = [version for version, path in found.items() if not path]
    if missing and (complete or len(missing) == len(versions)):
        raise SystemExit(f"{_named(missing)} not found: install the interpreters, or put them on PATH")
    if missing:
        print(f"{_named(missing)} not found: no compiled wheel for it, and nothing was tried on it", flush=True)
    return {version: path for version, path in found.items() if path}


def _path(version: str) -> str:
    return subprocess.run(["sh", str(_FIND), version], capture_output=True, text=True, check=True).stdout.strip()  # noqa: S607  # the shell of make


def _named(versions: Sequence[str]) -> str:
    return ", ".join(f"python{version}" for version in versions) + (" was" if len(versions) == 1 else " were")
