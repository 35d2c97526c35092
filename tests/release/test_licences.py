"""The licences of packages are checked as SPDX expressions."""

from typing import Any

import pytest
from tools.release.licences import check, is_accepted


def _component(name: str, *licences: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "version": "1.0", "licenses": [*licences]}


@pytest.mark.parametrize(
    ("package", "licences"),
    [
        ("a", ["MIT"]),
        ("a", ["Apache-2.0 OR GPL-3.0-only"]),
        ("a", ["MIT AND PSF-2.0"]),
        ("a", ["Apache-2.0", "BSD-3-Clause"]),
        ("psycopg-binary", ["LGPL-3.0-only"]),
        ("Psycopg_Binary", ["LGPL-3.0-only"]),
        ("certifi", ["MPL-2.0"]),
    ],
)
def test_accepted(package: str, licences: list[str]) -> None:
    """Of several licences one is enough where they are a choice. Some are accepted for named packages."""
    assert is_accepted(package, licences)


@pytest.mark.parametrize(
    ("package", "licences"),
    [
        ("a", []),
        ("a", ["GPL-3.0-only"]),
        ("a", ["MIT AND GPL-3.0-only"]),
        ("a", ["MIT", "GPL-3.0-only"]),
        ("a", ["GPL-2.0-only WITH Classpath-exception-2.0"]),
        ("a", ["LGPL-3.0-only"]),
        ("certifi", ["LGPL-3.0-only"]),
        ("a", ["as you like"]),
        ("a", ["MIT AND"]),
    ],
)
def test_refused(package: str, licences: list[str]) -> None:
    """Everything else is refused, also what is not an SPDX expression."""
    assert not is_accepted(package, licences)


def test_error() -> None:
    """The error names each refused package, its version and its licence."""
    components = [
        _component("fine", {"license": {"id": "MIT"}}),
        _component("copyleft", {"expression": "MIT AND GPL-3.0-only"}),
        _component("silent"),
    ]

    with pytest.raises(SystemExit, match=r"copyleft 1\.0: MIT AND GPL-3\.0-only\nsilent 1\.0: no licence$"):
        check(components)


def test_classifiers() -> None:
    """A package that declares its licence by a classifier is checked too."""
    check([_component("old", {"license": {"name": "License :: OSI Approved :: BSD License"}})])
    with pytest.raises(SystemExit, match=r"old 1\.0: License :: Other/Proprietary License"):
        check([_component("old", {"license": {"name": "License :: Other/Proprietary License"}})])
