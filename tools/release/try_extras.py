"""Tries an environment that has the library with one extra, or with none.

    python -I try_extras.py EXTRA

What the extra is for works. So does everything else whose packages are installed. The rest raises an error with the
command that installs it.
"""

import sys
from contextlib import redirect_stderr, redirect_stdout
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from io import StringIO
from typing import NamedTuple

from packaging.requirements import Requirement

_NAME = "awx-ratelimit"


class Use(NamedTuple):
    """A program that uses an extra, and what it prints and how it ends if it works."""

    code: str
    prints: str = ""
    status: int = 0


_COMMAND = "import sys; from awx_ratelimit.cli import main; sys.exit(main({}))"
#: Nothing listens there, as the load tester finds out.
_LOADTEST = [
    "loadtest",
    "http://127.0.0.1:9",
    "--seconds",
    "5",
    "--profiles",
    "steady",
    "--rate",
    "60/minute",
    "--key",
    "k",
]
#: What each extra is for.
USES = {
    "cli": Use(_COMMAND.format(["doctor", "memory://"])),
    "console": Use("from awx_ratelimit.console import Console, OperatorConsole"),
    "django": Use("from awx_ratelimit.adapters.django import DjangoUser, RateLimitMiddleware, limit"),
    "fastapi": Use("from awx_ratelimit.adapters.fastapi import limit; limit('30/minute')"),
    "flask": Use("from awx_ratelimit.adapters.flask import RateLimit, limit; limit('30/minute')"),
    "host": Use("from awx_ratelimit import HostBackend"),
    "keys": Use("from awx_ratelimit.keys import KeyService, KeyStore; KeyService(KeyStore.open('keys.db'))"),
    "loadtest": Use(_COMMAND.format(_LOADTEST), prints="connection refused", status=1),
    "opentelemetry": Use("from awx_ratelimit.observability.opentelemetry import OpenTelemetryMetrics"),
    "postgres": Use("from awx_ratelimit import AsyncPostgresBackend, PostgresBackend"),
    "prometheus": Use("from awx_ratelimit.observability.prometheus import PrometheusMetrics; PrometheusMetrics()"),
    "redis": Use("from awx_ratelimit import AsyncRedisBackend, RedisBackend"),
    "starlette": Use("from awx_ratelimit.adapters.starlette import RateLimitMiddleware, limit; limit('30/minute')"),
    "werkzeug": Use("from awx_ratelimit.adapters.werkzeug import RateLimitMiddleware"),
}
#: They work without their packages, which only the app needs.
_NEED_NOTHING = {"host", "werkzeug"}


def main(installed: str) -> None:
    """Raise SystemExit unless everything works that can, and the rest says how to install it."""
    _expect("the extras", {*(metadata(_NAME).get_all("Provides-Extra") or [])} - {"all"}, {*USES})
    for extra, use in USES.items():
        is_complete = _is_complete(extra)
        if installed in {extra, "all"}:
            _expect(f"the packages of {extra} are installed", is_complete, True)
        error = _error_of(use)
        if is_complete or extra in _NEED_NOTHING:
            _expect(f"the error of {extra}", error, "")
        else:
            remedy = "install it with: pip install 'awx-ratelimit["
            _expect(f"{remedy}...]' in the error of {extra}, which is {error!r}", remedy in error, True)


def _is_complete(extra: str) -> bool:
    """Whether all packages of an extra are installed, and those of the extras that it contains."""
    needed = [requirement for requirement in map(Requirement, requires(_NAME) or []) if _is_of(requirement, extra)]
    contained = {name for requirement in needed if requirement.name == _NAME for name in requirement.extras}
    return all(_is_installed(requirement) for requirement in needed) and all(map(_is_complete, contained))


def _is_of(requirement: Requirement, extra: str) -> bool:
    marker = requirement.marker
    return marker is not None and marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""})


def _is_installed(requirement: Requirement) -> bool:
    try:
        return requirement.specifier.contains(version(requirement.name), prereleases=True)
    except PackageNotFoundError:
        return False


def _error_of(use: Use) -> str:
    """What a program prints if it does not end as it should."""
    status: object = 0
    with redirect_stdout(StringIO()) as printed, redirect_stderr(printed):
        try:
            exec(use.code, {})  # noqa: S102  # a constant above
        except SystemExit as end:
            status = end.code
        except ImportError as error:
            return str(error)
    text = printed.getvalue()
    return "" if status == use.status and use.prints in text else text or f"status {status}"


def _expect(what: str, got: object, expected: object) -> None:
    if got != expected:
        raise SystemExit(f"{what}: expected {expected}, got {got}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
