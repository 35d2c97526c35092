"""A distribution has the files of the project, and none of this machine."""

from pathlib import Path

import pytest
from tests.release.archives import COMPILED, MODULES, PROJECT, PURE, SHARED, package, sdist, wheel
from tools.release.contents import check_sdist, check_wheel
from tools.release.project import ROOT

_COMPILED_FILES = dict.fromkeys([*MODULES, SHARED], b"")


def test_sdist(tmp_path: Path) -> None:
    """An sdist may have what git tracks, and its metadata."""
    check_sdist(sdist(tmp_path, [*PROJECT.files, "PKG-INFO"]), PROJECT)


@pytest.mark.parametrize(
    ("more", "fewer", "fault"),
    [
        ({"limits.db"}, set(), r"missing files \[\], unexpected files \['limits.db'\]"),
        (set(), {"tests/conftest.py"}, r"missing files \['tests/conftest.py'\], unexpected files \[\]"),
    ],
    ids=["more", "fewer"],
)
def test_wrong_sdist(tmp_path: Path, more: set[str], fewer: set[str], fault: str) -> None:
    """A file that git does not track, and one that is missing, are named."""
    with pytest.raises(SystemExit, match=fault):
        check_sdist(sdist(tmp_path, {*PROJECT.files, "PKG-INFO"} - fewer | more), PROJECT)


def test_wheels(tmp_path: Path) -> None:
    """A pure wheel has the package, and a compiled one its modules too."""
    check_wheel(wheel(tmp_path, PURE, package()), PROJECT)
    check_wheel(wheel(tmp_path, COMPILED, package() | _COMPILED_FILES), PROJECT)


@pytest.mark.parametrize("name", ["tests/conftest.py", "awx_ratelimit/limits.db", "tools/release/__main__.py"])
def test_more_than_the_package(tmp_path: Path, name: str) -> None:
    """A wheel with another file is refused."""
    with pytest.raises(SystemExit, match=f"unexpected files .*{name}"):
        check_wheel(wheel(tmp_path, PURE, {**package(), name: b""}), PROJECT)


def test_types(tmp_path: Path) -> None:
    """A wheel without py.typed is refused, because type checkers would ignore its annotations."""
    files = package()
    del files["awx_ratelimit/py.typed"]

    with pytest.raises(SystemExit, match=r"missing files .*py\.typed"):
        check_wheel(wheel(tmp_path, PURE, files), PROJECT)


def test_other_source(tmp_path: Path) -> None:
    """A wheel with a module that differs from that of src/ is refused."""
    with pytest.raises(SystemExit, match=r"expected the files of src/, got others: .*errors\.py"):
        check_wheel(wheel(tmp_path, PURE, {**package(), "awx_ratelimit/errors.py": b""}), PROJECT)


def test_module_in_a_pure_wheel(tmp_path: Path) -> None:
    """A pure wheel with a compiled module is refused."""
    with pytest.raises(SystemExit, match="unexpected files"):
        check_wheel(wheel(tmp_path, PURE, package() | _COMPILED_FILES), PROJECT)


def test_uncompiled_module(tmp_path: Path) -> None:
    """A compiled wheel without one of the modules of pyproject.toml is refused."""
    files = package() | _COMPILED_FILES
    del files[min(MODULES)]

    with pytest.raises(SystemExit, match="missing files"):
        check_wheel(wheel(tmp_path, COMPILED, files), PROJECT)


def test_tag_of_one_machine(tmp_path: Path) -> None:
    """A compiled wheel needs a manylinux tag, because package indexes refuse others."""
    name = COMPILED.replace("manylinux2014_x86_64.manylinux_2_17_x86_64", "linux_x86_64")

    with pytest.raises(SystemExit, match=r"expected a manylinux tag, got \['linux_x86_64'\]"):
        check_wheel(wheel(tmp_path, name, package() | _COMPILED_FILES), PROJECT)


def test_tag_of_another_python(tmp_path: Path) -> None:
    """A compiled wheel whose modules are for another version of Python than its tag is refused."""
    with pytest.raises(SystemExit, match="missing files"):
        check_wheel(wheel(tmp_path, COMPILED.replace("312", "313"), package() | _COMPILED_FILES), PROJECT)


def test_path_of_this_machine(tmp_path: Path) -> None:
    """A compiled module that contains a path of this machine is refused."""
    files = package() | {**_COMPILED_FILES, SHARED: f"\0{ROOT}/build/native.c\0".encode()}

    with pytest.raises(SystemExit, match="contains paths of this machine"):
        check_wheel(wheel(tmp_path, COMPILED, files), PROJECT)
