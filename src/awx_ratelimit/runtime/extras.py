"""Optional packages: names that are imported on first use, and errors for packages that are missing or too old."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any

_DISTRIBUTION = "awx-ratelimit"
#: The end of an error message: how to install the packages of an extra.
INSTALL = "install it with: pip install 'awx-ratelimit[{}]'"
#: The packages whose modules have other names.
_DISTRIBUTIONS = {
    "grpc": "grpcio",
    "jinja2": "Jinja2",
    "jwt": "PyJWT",
    "ninja": "django-ninja",
    "opentelemetry": "opentelemetry-api",
    "prometheus_client": "prometheus-client",
    "rest_framework": "djangorestframework",
    "sqlalchemy": "SQLAlchemy",
}
_REQUIREMENT = re.compile(r"([\w.-]+)(?:\[[^]]*\])?([^;]*);.*extra == '([\w-]+)'")
#: The extras and packages that were checked. Each check reads the metadata of packages, which takes milliseconds.
_compatible: set[tuple[str, tuple[str, ...]]] = set()


def lazy_exports(
    package: str, modules: Mapping[str, str], *, extra: str = "", packages: Mapping[str, str] | None = None
) -> Callable[[str], Any]:
    """The function ``__getattr__`` of a package whose names are imported on first use.

    `modules` has the module of each name. `packages` has the third-party packages that these modules import, by the
    name of the import. If one of them is missing or too old, the function raises ImportError with the command that
    installs `extra`, or the package itself if there is no extra.
    """
    names = dict(packages or {})

    def load(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if extra:
            check_versions(name, extra, *(distribution.lower() for distribution in names.values()))
        try:
            return getattr(import_module(modules[name]), name)
        except ModuleNotFoundError as error:
            # A module below may have named the package already, but not the extra that all of these names need.
            if error.name not in names:
                raise
            raise missing_package(f"{name} needs", error, extra, package=names[error.name]) from error

    return load


def missing_package(
    what: str, error: ImportError, extra: str = "", *, install: str = "", package: str = ""
) -> ModuleNotFoundError:
    """The error for what cannot be imported because of `error`: it names the package and the command that installs it.

    `what` ends with a verb, as in ``limits of RPCs need``. The command installs `extra`, else `install`, else the
    package. `package` names it if its imports do not.
    """
    imported = (error.name or install or extra).partition(".")[0]
    package = package or _DISTRIBUTIONS.get(imported, imported)
    command = INSTALL.format(extra) if extra else f"install it with: pip install {install or package}"
    return ModuleNotFoundError(f"{what} {package}; {command}", name=error.name)


def check_versions(what: str, extra: str, *packages: str) -> None:
    """Raise ImportError if an installed package of `packages` is too old for `extra`. `what` is what needs it.

    An old package would fail later, with a less helpful error. A missing package is not an error here: its import
    fails by itself.
    """
    if (extra, packages) in _compatible:
        return
    # Imported on first use, because the import takes a fifth of the time that `import awx_ratelimit` takes.
    from importlib.metadata import PackageNotFoundError, version

    for package, needed in _requirements(extra):
        with suppress(PackageNotFoundError):
            installed = version(package)
            if package in packages and not _is_compatible(installed, needed):
                raise ImportError(
                    f"{what} needs {package}{needed}, and {package} {installed} is installed; {INSTALL.format(extra)}"
                )
    _compatible.add((extra, packages))


def _requirements(extra: str) -> Iterator[tuple[str, str]]:
    """The packages of `extra` and their versions; none if this library is not installed as a distribution."""
    from importlib.metadata import PackageNotFoundError, requires

    try:
        requirements = requires(_DISTRIBUTION) or []
    except PackageNotFoundError:
        return
    for requirement in requirements:
        match = _REQUIREMENT.match(requirement)
        if match is not None and match[3] == extra:
            yield match[1].lower(), match[2].strip()


def _is_compatible(installed: str, needed: str) -> bool:
    # A dependency of `limits`. Imported on first use, because the import takes tens of milliseconds.
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(needed).contains(installed, prereleases=True)
