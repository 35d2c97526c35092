"""The builds of a release are compared, tagged, and made for every Python that pyproject.toml names."""

from pathlib import Path

import pytest
from tests.release.archives import PROJECT
from tools.release import interpreters
from tools.release.building import best_tag, check_code, check_equal
from tools.release.project import ROOT
from tools.release.try_extras import USES

#: What auditwheel says, which wraps its lines.
_REPORT = """
awx_ratelimit-0.2.0-cp312-cp312-linux_x86_64.whl is consistent with
the following platform tag: "{}".

The wheel references external versioned symbols in these
system-provided shared libraries: libc.so.6 with versions {{'GLIBC_2.14'}}
"""


def test_tag() -> None:
    """A compiled wheel gets the tag with which auditwheel says that it is consistent."""
    assert best_tag(_REPORT.format("manylinux_2_17_x86_64")) == "manylinux_2_17_x86_64"
    assert best_tag(_REPORT.replace("platform tag", "platform\ntag").format("manylinux_2_28_x86_64")) == (
        "manylinux_2_28_x86_64"
    )


def test_tag_of_one_machine() -> None:
    """A wheel that fits this machine only is an error, with what auditwheel says of it."""
    with pytest.raises(SystemExit, match=r'(?s)expected a wheel .*"linux_x86_64"'):
        best_tag(_REPORT.format("linux_x86_64"))


def test_reproducible(tmp_path: Path) -> None:
    """A second build with other bytes is an error."""
    first, second = tmp_path / "a" / "x.whl", tmp_path / "b" / "x.whl"
    for file in (first, second):
        file.parent.mkdir()
        file.write_bytes(b"same")
    check_equal(first, second)
    second.write_bytes(b"other")

    with pytest.raises(SystemExit, match=r"x\.whl: a second build, x\.whl, has other bytes"):
        check_equal(first, second)


def test_code(tmp_path: Path) -> None:
    """Generated code that multiplies ints by the function that aborts is an error, and so is none at all."""
    with pytest.raises(SystemExit, match="got 0 files"):
        check_code(tmp_path)
    (tmp_path / "native.c").write_text("x = CPyTagged_Add(a, b);\n")
    check_code(tmp_path)
    (tmp_path / "native.c").write_text("x = CPyTagged_Multiply(a, b);\n")

    with pytest.raises(SystemExit, match="CPyTagged_Multiply"):
        check_code(tmp_path)


def test_missing_interpreter(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A version without an interpreter is named and left out, and is an error if the release must be complete."""
    monkeypatch.setattr(interpreters, "_path", lambda version: "/usr/bin/python3.98" if version == "3.98" else "")

    assert interpreters.find(["3.98", "3.99"], complete=False) == {"3.98": "/usr/bin/python3.98"}
    assert "python3.99 was not found" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"python3\.99 was not found: install"):
        interpreters.find(["3.98", "3.99"], complete=True)
    with pytest.raises(SystemExit, match=r"python3\.97, python3\.99 were not found"):
        interpreters.find(["3.97", "3.99"], complete=False)


def test_pythons() -> None:
    """There is a compiled wheel for the oldest Python that the library supports."""
    assert PROJECT.table["project"]["requires-python"] == f">={PROJECT.pythons[0]}"


def test_extras() -> None:
    """Every extra is tried alone."""
    assert {*USES} == {*PROJECT.extras} - {"all"}


def test_changelog() -> None:
    """The newest entry of the changelog is that of the version of pyproject.toml."""
    lines = (ROOT / "CHANGELOG.md").read_text().splitlines()
    released = [line for line in lines if line.startswith("## ") and line != "## Unreleased"]

    assert released[0].startswith(f"## {PROJECT.version} - ")
