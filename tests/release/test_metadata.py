"""The page of a package index shows the metadata of pyproject.toml, and a description that makes sense there."""

import re
from pathlib import Path

import pytest
from tests.release.archives import METADATA, PROJECT, PURE, sdist, wheel
from tools.release.metadata import check, faults_of_description
from tools.release.project import ROOT


def _written(description: str = "", **changed: str) -> bytes:
    """The metadata of the project, with some fields changed."""
    table = PROJECT.table["project"]
    fields = {
        "Metadata-Version": "2.4", "Name": table["name"], "Version": PROJECT.version, "Summary": table["description"],
        "License-Expression": table["license"], "License-File": "LICENSE", "Requires-Python": table["requires-python"],
        "Description-Content-Type": "text/markdown",
    }  # fmt: skip
    lines = [f"{name}: {value}" for name, value in (fields | changed).items()]
    lines += [f"Classifier: {name}" for name in table["classifiers"]]
    lines += [f"Provides-Extra: {name}" for name in PROJECT.extras]
    lines += [
        f"Project-URL: {label}, {url}" for label, url in table.get("urls", {}).items() if "Project-URL" not in changed
    ]
    return "\n".join([*lines, "", description]).encode()


def _description() -> str:
    """The description as it is built from README.md."""
    text = (ROOT / "README.md").read_text()
    for one in PROJECT.table["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(one["pattern"], one["replacement"], text)
    return text


def test_metadata(tmp_path: Path) -> None:
    """A wheel and an sdist with the metadata of pyproject.toml are accepted."""
    check(wheel(tmp_path, PURE, {METADATA: _written(_description())}), PROJECT)
    check(sdist(tmp_path, ["PKG-INFO"], _written(_description())), PROJECT)


@pytest.mark.parametrize(
    ("field", "value", "fault"),
    [
        ("Metadata-Version", "2.5", r"metadata: expected 2\.4, got 2\.5"),
        ("Version", "0.0.1", "version: expected .*, got 0.0.1"),
        ("License-Expression", "Apache-2.0", "licence: expected MIT, got Apache-2.0"),
        ("Requires-Python", ">=3.9", r"Python: expected >=3.11, got >=3.9"),
        (
            "Project-URL",
            "Documentation, https://docs.example.org/other",
            "documentation: expected .*, got https://docs",
        ),
    ],
)
def test_wrong_field(tmp_path: Path, field: str, value: str, fault: str) -> None:
    """A field that differs from pyproject.toml is named, with both values."""
    with pytest.raises(SystemExit, match=fault):
        check(wheel(tmp_path, PURE, {METADATA: _written(**{field: value})}), PROJECT)


def test_description() -> None:
    """The description keeps the links to other hosts, and says how to install from a package index."""
    text = _description()

    assert faults_of_description(text) == []
    assert "pip install awx-ratelimit  " in text
    assert "pip install 'awx-ratelimit[redis]'" in text
    assert "docs/index.md lists all pages" in text


@pytest.mark.parametrize(
    "text",
    ["See [gate](docs/gate.md).", "[below](#install)", "The package is not on PyPI yet.", "pip install '.[redis]'"],
)
def test_wrong_description(text: str) -> None:
    """A link to another page, and what is true of a clone only, are faults."""
    assert len(faults_of_description(text)) == 1
