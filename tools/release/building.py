"""Builds the sdist, and every wheel from the sdist, as pip does for a user."""

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from tools.release.environments import NO_COMPILER, pip, run
from tools.release.project import ROOT

#: Without the linker's options of the interpreter, which may have the path of its libraries on this machine.
_COMPILED = {"HATCH_BUILD_HOOK_ENABLE_MYPYC": "true", "LDSHARED": "cc -shared"}
#: It takes the exception of a signal handler for a lack of memory, and aborts: see `awx_ratelimit.core.bucket.product`.
_ABORTING = "CPyTagged_Multiply("
_BEST_TAG = re.compile(r'platform tag:\s+"(manylinux_\w+)"')


@dataclass(frozen=True, slots=True)
class Built:
    """The files of a release."""

    sdist: Path
    pure: Path
    #: The compiled wheel for each version of Python.
    compiled: Mapping[str, Path]

    @property
    def files(self) -> list[Path]:
        """Everything that is uploaded."""
        return [self.sdist, self.pure, *self.compiled.values()]


def build(folder: Path, place: Path, pythons: Mapping[str, str]) -> Built:
    """Build everything into `folder`, with intermediate files in `place`. Raises SystemExit if something fails."""
    dated = {"SOURCE_DATE_EPOCH": _time_of_commit()}
    sdist = _sdist(folder, dated)
    print(f"{sdist.name}: built", flush=True)
    oldest = next(iter(pythons.values()))
    pure = _wheel(oldest, sdist, folder, {**dated, **NO_COMPILER})
    print(f"{pure.name}: built from the sdist, without a compiler", flush=True)
    again = _sdist(place / "again", dated)
    check_equal(sdist, again)
    check_equal(pure, _wheel(oldest, again, place / "again", dated))
    print(f"{sdist.name}, {pure.name}: a second build has the same bytes", flush=True)
    compiled = {}
    for version, python in pythons.items():
        compiled[version] = _compiled(python, sdist, folder, place / version, dated)
        print(f"{compiled[version].name}: built from the sdist", flush=True)
    return Built(sdist, pure, compiled)


def check_equal(first: Path, second: Path) -> None:
    """Raise SystemExit unless two builds of a file have the same name and the same bytes."""
    if first.name != second.name or _digest(first) != _digest(second):
        raise SystemExit(f"{first.name}: a second build, {second.name}, has other bytes")


def best_tag(report: str) -> str:
    """The manylinux tag that `auditwheel show` has found. Raises SystemExit if there is none."""
    match = _BEST_TAG.search(" ".join(report.split()))
    if match is None:
        raise SystemExit(f"expected a wheel that is consistent with a manylinux tag, got:\n{report}")
    return match[1]


def _time_of_commit() -> str:
    return run(["git", "log", "-1", "--format=%ct"], folder=ROOT).strip()


def _sdist(folder: Path, variables: Mapping[str, str]) -> Path:
    run([sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(folder)], variables, ROOT)
    (built,) = folder.glob("*.tar.gz")
    return built


def _wheel(python: str, sdist: Path, folder: Path, variables: Mapping[str, str]) -> Path:
    before = {*folder.glob("*.whl")}
    pip(python, "wheel", "--no-deps", "--wheel-dir", str(folder), str(sdist), variables=variables)
    (built,) = {*folder.glob("*.whl")} - before
    return built


def _compiled(python: str, sdist: Path, folder: Path, place: Path, variables: Mapping[str, str]) -> Path:
    """The wheel that is compiled for `python`, with the tag of the oldest Linux on which it works."""
    generated = place / "generated"
    generated.mkdir(parents=True)
    plain = _wheel(python, sdist, place, {**variables, **_COMPILED, "HATCH_MYPYC_BUILD_DIR": str(generated)})
    check_code(generated)
    tag = best_tag(run(["auditwheel", "show", str(plain)]))
    before = {*folder.glob("*.whl")}
    run(["auditwheel", "repair", "--plat", tag, "--wheel-dir", str(folder), str(plain)], variables)
    (built,) = {*folder.glob("*.whl")} - before
    return built


def check_code(generated: Path) -> None:
    """Raise SystemExit if the code in C multiplies integers, unless mypyc takes them for `Any`."""
    files = [*generated.glob("**/*.c")]
    found = [line for file in files for line in file.read_text().splitlines() if _ABORTING in line]
    if found or not files:
        raise SystemExit(f"expected code that multiplies no ints, got {len(files)} files with {found}; use `product`")


def _digest(file: Path) -> str:
    return sha256(file.read_bytes()).hexdigest()
