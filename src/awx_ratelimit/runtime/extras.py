"""Whether the packages of an extra are of versions that fit: an older one fails in ways that do not say so."""

import re
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, requires, version

_DISTRIBUTION = "awx-ratelimit"
#: How to get the packages of an extra.
INSTALL = "install it with: pip install 'awx-ratelimit[{}]'"
_REQUIREMENT = re.compile(r"([\w.-]+)(?:\[[^]]*\])?([^;]*);.*extra == '([\w-]+)'")


def check_versions(what: str, extra: str, *packages: str) -> None:
    """Raise ImportError, with both versions, for the first of `packages` that does not fit what `extra` needs.

    What is not installed at all is not looked at: its import says so.
    """
    for package, needed in _needed(extra):
        with suppress(PackageNotFoundError):
            installed = version(package)
            if package in packages and not _fits(installed, needed):
                raise ImportError(
                    f"{what} needs {package}{needed}, and {package} {installed} is installed; {INSTALL.format(extra)}"
                )


def _needed(extra: str) -> Iterator[tuple[str, str]]:
    """The packages of `extra` and their versions; none where this library itself is not installed."""
    try:
        requirements = requires(_DISTRIBUTION) or []
    except PackageNotFoundError:
        return
    for requirement in requirements:
        match = _REQUIREMENT.match(requirement)
        if match is not None and match[3] == extra:
            yield match[1].lower(), match[2].strip()


def _fits(installed: str, needed: str) -> bool:
    # `limits` needs it. On first use: it takes as long as a small command.
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(needed).contains(installed, prereleases=True)
