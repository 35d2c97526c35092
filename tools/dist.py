"""Builds the distributions, installs each of them in a fresh environment, and tries it there.

    python tools/dist.py FOLDER

FOLDER gets the sdist, the wheel in pure Python, and the compiled wheel for this interpreter. Both wheels are built
from the unpacked sdist, so it is complete, and no compiled module gets into `src`. The sdist and the pure wheel are
installed where no compiler works.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

ROOT: Final = Path(__file__).parent.parent
TRIAL: Final = ROOT / "tools" / "try_installed.py"
_SUFFIX = ".so"
_COMPILED = {"HATCH_BUILD_HOOK_ENABLE_MYPYC": "true"}
#: It takes the exception of a signal handler for a lack of memory, and aborts: see `awx_ratelimit.core.bucket.product`.
_ABORTING = "CPyTagged_Multiply("
_NO_COMPILER = {"CC": "false", "CXX": "false"}


def main(folder: Path) -> None:
    """Build and try everything. Raises SystemExit for the first failure."""
    shutil.rmtree(folder, ignore_errors=True)
    with TemporaryDirectory() as place:
        sdist = _build("sdist", ROOT, folder)
        with tarfile.open(sdist) as archive:
            archive.extractall(place, filter="data")
        (source,) = Path(place).iterdir()
        pure = _build("wheel", source, folder)
        generated = Path(place, "generated")
        generated.mkdir()
        compiled = _build("wheel", source, folder, {**_COMPILED, "HATCH_MYPYC_BUILD_DIR": str(generated)})
        _check_code(generated)
    _check_modules(pure, set())
    _check_modules(compiled, _compiled_modules())
    for distribution, form, environment in (
        (sdist, "pure", _NO_COMPILER), (pure, "pure", _NO_COMPILER), (compiled, "compiled", {}),
    ):  # fmt: skip
        _try(distribution, form, environment)
        print(f"{distribution.name}: works, {form}", flush=True)


def _build(target: str, source: Path, folder: Path, environment: Mapping[str, str] | None = None) -> Path:
    before = set(folder.glob("*"))
    _run([sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)], environment, source)
    (built,) = set(folder.glob("*")) - before
    return built


def _compiled_modules() -> set[str]:
    """The modules that pyproject.toml gives to the compiler, as in a wheel."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    hook = project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["mypyc"]
    return {path.removeprefix("/src/").removesuffix(".py") for path in hook["include"]}


def _check_modules(wheel: Path, expected: set[str]) -> None:
    with zipfile.ZipFile(wheel) as archive:
        found = {name.partition(".")[0] for name in archive.namelist() if name.endswith(_SUFFIX) and "/" in name}
    if found != expected:
        raise SystemExit(f"{wheel.name}: expected the compiled modules {sorted(expected)}, got {sorted(found)}")


def _check_code(generated: Path) -> None:
    """Raise SystemExit if the code in C multiplies integers, unless mypyc takes them for `Any`."""
    files = [*generated.glob("**/*.c")]
    found = [line for file in files for line in file.read_text().splitlines() if _ABORTING in line]
    if found or not files:
        raise SystemExit(f"expected code that multiplies no ints, got {len(files)} files with {found}; use `product`")


def _try(distribution: Path, form: str, environment: Mapping[str, str]) -> None:
    with TemporaryDirectory() as place:
        _run([sys.executable, "-m", "venv", place])
        python = f"{place}/bin/python"
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        constraints = str(ROOT / "constraints.txt")
        _run([*pip, "--constraint", constraints, f"{distribution}[cli,fastapi]"], environment)
        # Outside of the repository, so that only the installed package can be imported.
        _run([python, "-I", str(TRIAL), form], folder=Path(place))


def _run(command: list[str], environment: Mapping[str, str] | None = None, folder: Path | None = None) -> None:
    done = subprocess.run(command, cwd=folder, env={**os.environ, **(environment or {})}, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: ended with status {done.returncode}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
