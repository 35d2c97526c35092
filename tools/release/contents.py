"""Checks which files a distribution has: those of the project, and none of this machine."""

import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from tempfile import gettempdir

from packaging.utils import parse_wheel_filename
from tools.release.project import ROOT, Project

_DIST_INFO = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}


def check_sdist(sdist: Path, project: Project) -> None:
    """Raise SystemExit unless the sdist has the files that git tracks, so that it can be built and tested."""
    folder = sdist.name.removesuffix(".tar.gz")
    with tarfile.open(sdist) as archive:
        names = [member.name.removeprefix(f"{folder}/") for member in archive if not member.isdir()]
    _expect_files(sdist, names, {*project.files, "PKG-INFO"})


def check_wheel(wheel: Path, project: Project) -> None:
    """Raise SystemExit unless the wheel has exactly the package, its metadata, and the modules that its tag promises.

    A compiled wheel must have a manylinux tag: others are not accepted for upload. Its modules contain no path of this
    machine.
    """
    name, version, _, tags = parse_wheel_filename(wheel.name)
    folder = f"{name.replace('-', '_')}-{version}.dist-info"
    expected = project.package_files | {f"{folder}/{file}" for file in _DIST_INFO}
    interpreters = {tag.interpreter for tag in tags}
    platforms = {tag.platform for tag in tags}
    with zipfile.ZipFile(wheel) as archive:
        files = {info.filename: archive.read(info) for info in archive.infolist() if not info.is_dir()}
    modules = {file for file in files if file.endswith(".so")}
    _check_sources(wheel, files, project.package_files)
    _expect_files(wheel, files.keys() - modules, expected)
    if platforms == {"any"}:
        _expect_files(wheel, modules, set())
        return
    if not all(platform.startswith(("manylinux_", "manylinux2")) for platform in platforms):
        raise SystemExit(f"{wheel.name}: expected a manylinux tag, got {sorted(platforms)}")
    (interpreter,) = interpreters
    _check_modules(wheel, {name: files[name] for name in modules}, interpreter, project.compiled_modules)


def paths_of_this_machine(content: bytes) -> list[str]:
    """The folders of this machine that the bytes of a file name: of the repository, of the user, of temporary files."""
    return [path for path in (str(ROOT), str(Path.home()), gettempdir()) if f"{path}/".encode() in content]


def _check_modules(wheel: Path, modules: dict[str, bytes], interpreter: str, expected: set[str]) -> None:
    suffix = f".cpython-{interpreter.removeprefix('cp')}-"
    shared = [name for name in modules if "/" not in name]
    if len(shared) != 1 or not shared[0].partition(".")[0].endswith("__mypyc"):
        raise SystemExit(f"{wheel.name}: expected one module of mypyc beside the package, got {shared}")
    _expect_files(wheel, [name.partition(suffix)[0] for name in modules if "/" in name], expected)
    for name, content in modules.items():
        if paths := paths_of_this_machine(content):
            raise SystemExit(f"{wheel.name}: {name} contains paths of this machine: {paths}")


def _check_sources(wheel: Path, files: dict[str, bytes], sources: Iterable[str]) -> None:
    changed = [name for name in sources if name in files and files[name] != (ROOT / "src" / name).read_bytes()]
    if changed:
        raise SystemExit(f"{wheel.name}: expected the files of src/, got others: {sorted(changed)}")


def _expect_files(archive: Path, found: Iterable[str], expected: set[str]) -> None:
    missing, unexpected = expected - {*found}, {*found} - expected
    if missing or unexpected:
        raise SystemExit(f"{archive.name}: missing files {sorted(missing)}, unexpected files {sorted(unexpected)}")
