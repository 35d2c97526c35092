"""Writes the bill of materials (SBOM): the package with all extras and what they install, as CycloneDX in JSON."""

import json
from pathlib import Path
from typing import Any

from tools.release.contents import paths_of_this_machine
from tools.release.environments import run
from tools.release.project import ROOT


def name_of(sdist: Path) -> Path:
    """The file beside `sdist` that the bill of its version is written to."""
    return sdist.with_name(sdist.name.removesuffix(".tar.gz") + ".cdx.json")


def write(python: str, target: Path, *, validate: bool) -> Path:
    """Write the bill of the environment of `python`, which has the package and nothing that it does not need.

    To validate it against the schema of CycloneDX takes ten seconds.
    """
    about = ["--pyproject", str(ROOT / "pyproject.toml"), "--mc-type", "library"]
    form = ["--output-reproducible", "--of", "JSON", "--validate" if validate else "--no-validate"]
    run(["cyclonedx-py", "environment", *about, *form, "-o", str(target), python])
    if paths := paths_of_this_machine(target.read_bytes()):
        raise SystemExit(f"{target.name} contains paths of this machine: {paths}")
    return target


def components(bill: Path) -> list[dict[str, Any]]:
    """The packages in a bill."""
    found: list[dict[str, Any]] = json.loads(bill.read_text())["components"]
    return found
