"""What pyproject.toml and git say about the project."""

import re
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
CONSTRAINTS: Final = ROOT / "constraints.txt"
_PYTHON = re.compile(r"Programming Language :: Python :: (3\.\d+)")


@dataclass(frozen=True, slots=True)
class Project:
    """The parts of the project that distributions are checked against."""

    table: dict[str, Any]
    #: The files that git tracks, relative to the root.
    files: frozenset[str]

    @classmethod
    def read(cls, root: Path) -> "Project":
        """Read pyproject.toml, and ask git for its files. Raises CalledProcessError outside of a clone."""
        command = ["git", "ls-files", "-z"]
        listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
        return cls(tomllib.loads((root / "pyproject.toml").read_text()), frozenset(listed.stdout.split("\0")[:-1]))

    @property
    def version(self) -> str:
        """The version to release."""
        return str(self.table["project"]["version"])

    @property
    def pythons(self) -> list[str]:
        """The versions of Python that the classifiers name, oldest first: those that tests run on."""
        found = map(_PYTHON.fullmatch, self.table["project"]["classifiers"])
        return sorted((match[1] for match in found if match), key=lambda version: [*map(int, version.split("."))])

    @property
    def extras(self) -> list[str]:
        """The names of the extras."""
        return sorted(self.table["project"]["optional-dependencies"])

    @property
    def package_files(self) -> set[str]:
        """The files of the package, as a pure wheel has them."""
        return {file.removeprefix("src/") for file in self.files if file.startswith("src/")}

    @property
    def compiled_modules(self) -> set[str]:
        """The modules that mypyc compiles, as paths in a wheel without their suffix."""
        hook = self.table["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["mypyc"]
        return {path.removeprefix("/src/").removesuffix(".py") for path in hook["include"]}
