"""Installs the distributions in fresh environments, and tries them there."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from tools.release import bill, licences
from tools.release.building import Built
from tools.release.environments import NO_COMPILER, Environment, pip
from tools.release.project import Project

_INSTALLED = Path(__file__).with_name("try_installed.py")
_EXTRAS = Path(__file__).with_name("try_extras.py")
#: What the five lines of the README and the command need.
_FIRST_EXTRAS = "[cli,fastapi]"


def try_all(project: Project, built: Built, pythons: Mapping[str, str]) -> None:
    """Try everything on every Python, and write the bill of materials. Raises SystemExit for the first failure."""
    oldest, *_ = pythons
    with TemporaryDirectory() as place:
        environment = Environment(Path(place, "sdist"), pythons[oldest])
        environment.install(f"{built.sdist}{_FIRST_EXTRAS}", variables=NO_COMPILER)
        environment.try_program(_INSTALLED, "pure")
    print(f"{built.sdist.name}: works on Python {oldest}, installed without a compiler", flush=True)
    for version, python in pythons.items():
        with TemporaryDirectory() as place:
            trial = _Trial(Path(place), version, python)
            trial.download(built.pure)
            trial.try_wheel(built.pure, "pure")
            trial.try_wheel(built.compiled[version], "compiled")
            trial.try_extras(built.pure, project.extras)
            components = trial.check_licences(built.pure, bill.name_of(built.sdist) if version == oldest else None)
            print(f"Python {version}: the licences of {components} packages are accepted", flush=True)


class _Trial:
    """The trials on one version of Python. All packages are downloaded once."""

    def __init__(self, place: Path, version: str, python: str) -> None:
        self._place, self._version, self._python = place, version, python
        self._wheels = place / "wheels"

    def download(self, wheel: Path) -> None:
        """Get what all extras need. No package may need a compiler."""
        pip(self._python, "download", "--only-binary", ":all:", "--dest", str(self._wheels), f"{wheel}[all]")

    def try_wheel(self, wheel: Path, form: str) -> None:
        """The five lines of the README, and the command."""
        environment = Environment(self._place / form, self._python)
        environment.install("--no-index", "--find-links", str(self._wheels), f"{wheel}{_FIRST_EXTRAS}")
        environment.try_program(_INSTALLED, form)
        print(f"{wheel.name}: works on Python {self._version}, {form}", flush=True)

    def try_extras(self, wheel: Path, extras: list[str]) -> None:
        """No extra, and each alone: what it is for works, and what another is for says how to install that."""
        for extra in ["", *extras]:
            self._environment(wheel, f"[{extra}]" if extra else "", f"extra-{extra}").try_program(_EXTRAS, extra)
        print(f"{wheel.name}: {len(extras)} extras work alone on Python {self._version}", flush=True)

    def check_licences(self, wheel: Path, target: Path | None) -> int:
        """Check the licences of all packages, and return how many there are. Write their bill into `target`."""
        environment = self._environment(wheel, "[all]", "licences")
        written = bill.write(environment.python, target or self._place / "bill.json", validate=target is not None)
        components = bill.components(written)
        licences.check(components)
        if target:
            print(f"{target.name}: the bill of materials, with {len(components)} packages", flush=True)
        return len(components)

    def _environment(self, wheel: Path, extras: str, name: str) -> Environment:
        environment = Environment(self._place / name, self._python)
        environment.install_quickly(self._wheels, f"{wheel}{extras}")
        return environment
