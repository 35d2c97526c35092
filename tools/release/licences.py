"""Checks the licences of everything that users install with the library, against licences.toml."""

import tomllib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from license_expression import ExpressionError, get_spdx_licensing
from packaging.utils import canonicalize_name

_SPDX = get_spdx_licensing()


def check(components: Iterable[dict[str, Any]]) -> None:
    """Raise SystemExit with the names and licences of the packages whose licence is not accepted."""
    refused = [
        f"{each['name']} {each['version']}: {' AND '.join(declared(each)) or 'no licence'}"
        for each in components
        if not is_accepted(each["name"], declared(each))
    ]
    if refused:
        raise SystemExit("licences that tools/release/licences.toml does not accept:\n" + "\n".join(sorted(refused)))


def declared(component: dict[str, Any]) -> list[str]:
    """The licences that a component of a bill of materials declares; all of them apply."""
    found = [entry.get("expression") or _named(entry["license"]) for entry in component.get("licenses", [])]
    return sorted({*found})


def is_accepted(package: str, licences: list[str]) -> bool:
    """Whether a package may have all of these licences: SPDX expressions. One that declares nothing may not."""
    accepted = {*_rules()["everywhere"]}
    accepted |= {name for name, packages in _rules()["packages"].items() if canonicalize_name(package) in packages}
    return bool(licences) and all(_allows(expression, accepted) for expression in licences)


def _allows(expression: str, accepted: set[str]) -> bool:
    try:
        parsed = _SPDX.parse(expression, validate=True)
    except ExpressionError:
        return False
    values = {symbol: _SPDX.TRUE if symbol.render() in accepted else _SPDX.FALSE for symbol in parsed.symbols}
    return bool(parsed.subs(values, simplify=True) == _SPDX.TRUE)


def _named(licence: dict[str, str]) -> str:
    name = licence.get("id") or licence["name"]
    return str(_rules()["classifiers"].get(name, name))


@cache
def _rules() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("licences.toml").read_text())
