"""Fresh environments: each has only what is installed into it."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tools.release.project import CONSTRAINTS

#: For a distribution that must not need a compiler.
NO_COMPILER = {"CC": "false", "CXX": "false"}


class Environment:
    """A fresh environment in `folder`, for the interpreter at the path `python`. It has no pip."""

    def __init__(self, folder: Path, python: str) -> None:
        run([python, "-m", "venv", "--without-pip", str(folder)])
        self.folder = folder
        self.python = str(folder / "bin" / "python")

    def install(self, *arguments: str, variables: Mapping[str, str] | None = None) -> None:
        """Install packages, with these arguments of ``pip install``."""
        pip(self.python, "install", *arguments, variables=variables)

    def install_quickly(self, wheels: Path, requirement: str) -> None:
        """Install packages from a folder of wheels, without an index. For dozens of environments: uv links files."""
        options = ["--no-config", "--offline", "--no-index", "--find-links", str(wheels), "--python", self.python]
        run(["uv", "pip", "install", "--quiet", *options, requirement], {"UV_CACHE_DIR": str(wheels / "cache")})

    def try_program(self, program: Path, *arguments: str) -> None:
        """Run a program, from a folder and with a path in which only installed packages can be found."""
        run([self.python, "-I", str(program), *arguments], folder=self.folder)


def pip(python: str, command: str, *arguments: str, variables: Mapping[str, str] | None = None) -> None:
    """Run a command of pip for another interpreter, with the versions that constraints.txt pins."""
    pip_for = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python]
    pinned = ["--constraint", str(CONSTRAINTS), "--build-constraint", str(CONSTRAINTS)]
    run([*pip_for, command, "--quiet", *pinned, *arguments], variables)


def run(command: Sequence[str], variables: Mapping[str, str] | None = None, folder: Path | None = None) -> str:
    """Run a command and return what it prints. Raises SystemExit with the command and its output if it fails.

    It finds the programs that are installed beside this interpreter first.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, **(variables or {})}
    done = subprocess.run(
        command, cwd=folder, env=environment, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode:
        raise SystemExit(f"{done.stdout}\n{' '.join(command)}: ended with status {done.returncode}")
    return done.stdout
