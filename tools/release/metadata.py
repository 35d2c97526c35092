"""Checks what the page of a package index shows of a distribution."""

import re
import tarfile
import zipfile
from pathlib import Path

from packaging.metadata import Metadata
from tools.release.project import Project

from awx_ratelimit.runtime.documentation import SITE

#: A link that leads nowhere on the page of a package index, because the other pages are not there.
_LOCAL_LINK = re.compile(r"\]\((?!https?://)[^)\s]+\)")
#: True of a clone only.
_OF_A_CLONE = ("not on PyPI", "pip install .", "pip install '.")


def read(distribution: Path) -> Metadata:
    """The metadata of an sdist or a wheel. Raises an ExceptionGroup if a field is not valid."""
    if distribution.suffix == ".whl":
        with zipfile.ZipFile(distribution) as wheel:
            (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
            return Metadata.from_email(wheel.read(name))
    with tarfile.open(distribution) as sdist:
        content = sdist.extractfile(f"{distribution.name.removesuffix('.tar.gz')}/PKG-INFO")
        assert content is not None
        return Metadata.from_email(content.read())


def check(distribution: Path, project: Project) -> None:
    """Raise SystemExit unless the metadata is that of pyproject.toml, and the description makes sense on its page."""
    shown, table = read(distribution), project.table["project"]
    got = {
        "metadata": shown.metadata_version,
        "name": shown.name,
        "version": str(shown.version),
        "summary": shown.summary,
        "Python": str(shown.requires_python),
        "licence": shown.license_expression,
        "licence files": shown.license_files,
        "classifiers": shown.classifiers,
        "extras": sorted(shown.provides_extra or []),
        "description": shown.description_content_type,
        "documentation": (shown.project_urls or {}).get("Documentation", ""),
    }
    expected = {
        "metadata": project.table["tool"]["hatch"]["build"]["targets"]["wheel"]["core-metadata-version"],
        "name": table["name"],
        "version": project.version,
        "summary": table["description"],
        "Python": table["requires-python"],
        "licence": table["license"],
        "licence files": table["license-files"],
        "classifiers": table["classifiers"],
        "extras": project.extras,
        "description": "text/markdown",
        # Log lines and errors lead there.
        "documentation": SITE,
    }
    wrong = [f"{field}: expected {expected[field]}, got {got[field]}" for field in got if got[field] != expected[field]]
    wrong += faults_of_description(shown.description or "")
    if wrong:
        raise SystemExit("\n".join(f"{distribution.name}: {fault}" for fault in wrong))


def faults_of_description(text: str) -> list[str]:
    """What does not make sense outside of a clone: links to other files, and how to install a clone."""
    faults = [f"a link that leads nowhere: {link}" for link in _LOCAL_LINK.findall(text)]
    return faults + [f"true of a clone only: {phrase}" for phrase in _OF_A_CLONE if phrase in text]
