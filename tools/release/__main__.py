"""Builds all distributions, and tries each of them. Every step prints one line that says what was proven.

    python -m tools.release FOLDER [--complete]

FOLDER gets the sdist, the pure wheel, a compiled wheel for each version of Python that pyproject.toml names, and the
bill of materials. A version without an interpreter is named and left out; with ``--complete`` it is an error, and so
are changes that are not committed.
"""

import argparse
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tools.release import building, contents, interpreters, metadata, trials
from tools.release.environments import run
from tools.release.project import ROOT, Project


def main(arguments: Sequence[str] | None = None) -> None:
    """Build and try everything. Raises SystemExit for the first failure."""
    parser = argparse.ArgumentParser(description="Build the distributions, and try each of them.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--complete", action="store_true", help="fail if an interpreter is missing")
    options = parser.parse_args(arguments)
    os.nice(10)
    project = Project.read(ROOT)
    if options.complete:
        _check_commit()
    pythons = interpreters.find(project.pythons, complete=options.complete)
    folder: Path = options.folder.absolute()
    shutil.rmtree(folder, ignore_errors=True)
    with TemporaryDirectory() as place:
        built = building.build(folder, Path(place), pythons)
    _check(project, built)
    trials.try_all(project, built, pythons)
    print(f"{folder}: {len(built.files)} distributions and a bill of materials", flush=True)


def _check_commit() -> None:
    if changed := run(["git", "status", "--porcelain"], folder=ROOT):
        raise SystemExit(f"a release is built from a commit; commit or remove these files first:\n{changed}")


def _check(project: Project, built: building.Built) -> None:
    contents.check_sdist(built.sdist, project)
    for wheel in [built.pure, *built.compiled.values()]:
        contents.check_wheel(wheel, project)
    for file in built.files:
        metadata.check(file, project)
    run(["twine", "--no-color", "check", "--strict", *map(str, built.files)])
    print(f"{len(built.files)} distributions: their files, metadata and description are those of a release", flush=True)


if __name__ == "__main__":
    main()
