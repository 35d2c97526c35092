"""Distributions with the files that a test gives them."""

import io
import tarfile
import tomllib
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from tools.release.project import ROOT, Project

_TABLE = tomllib.loads((ROOT / "pyproject.toml").read_text())
_SOURCES = [path for path in (ROOT / "src/awx_ratelimit").rglob("*") if path.is_file()]
#: Without git, which an unpacked sdist does not have.
PROJECT = Project(
    _TABLE,
    frozenset(str(path.relative_to(ROOT)) for path in _SOURCES if path.suffix not in {".pyc", ".so"})
    | {"pyproject.toml", "tests/conftest.py"},
)
MODULES = {f"{name}.cpython-312-x86_64-linux-gnu.so" for name in PROJECT.compiled_modules}
SHARED = "31ab__mypyc.cpython-312-x86_64-linux-gnu.so"
VERSION = PROJECT.version
PURE = f"awx_ratelimit-{VERSION}-py3-none-any.whl"
COMPILED = f"awx_ratelimit-{VERSION}-cp312-cp312-manylinux2014_x86_64.manylinux_2_17_x86_64.whl"
SDIST = f"awx_ratelimit-{VERSION}.tar.gz"
_INFO = f"awx_ratelimit-{VERSION}.dist-info"
METADATA = f"{_INFO}/METADATA"


def package() -> dict[str, bytes]:
    """The files of a pure wheel."""
    files = {name: (ROOT / "src" / name).read_bytes() for name in PROJECT.package_files}
    return files | {
        f"{_INFO}/{name}": b"" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")
    }


def wheel(folder: Path, name: str, files: Mapping[str, bytes]) -> Path:
    """Write a wheel."""
    with zipfile.ZipFile(folder / name, "w") as archive:
        for file, content in files.items():
            archive.writestr(file, content)
    return folder / name


def sdist(folder: Path, files: Iterable[str], content: bytes = b"") -> Path:
    """Write an sdist whose files have the same content."""
    with tarfile.open(folder / SDIST, "w:gz") as archive:
        for file in files:
            member = tarfile.TarInfo(f"{SDIST.removesuffix('.tar.gz')}/{file}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return folder / SDIST
