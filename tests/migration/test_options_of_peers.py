"""The pages of docs/migration say of each option of a library what becomes of it."""

import inspect
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

import django_ratelimit.core
import django_ratelimit.decorators
import fastapi_limiter.depends
import flask_limiter.constants
import pyrate_limiter
import pytest
import slowapi.extension
from tests.migration.peers import PEERS, Peer
from tools.migration import page_of

#: Arguments that are passed on, such as the request, and a private field of Flask-Limiter's limits.
_PASSED = {"self", "app", "obj", "request", "response", "view", "ws", "name", "timeout", "finalized"}


def parameters(*functions: Callable[..., Any]) -> Iterator[str]:
    """The names of functions, and of their parameters."""
    for function in functions:
        yield function.__name__
        yield from set(inspect.signature(function).parameters) - _PASSED


def settings(constants: type) -> Iterator[str]:
    """The settings that a class of constants names."""
    yield from (value for name, value in vars(constants).items() if name.isupper())


def members(*classes: type) -> Iterator[str]:
    """The public attributes and methods of classes, and their names."""
    for each in classes:
        yield each.__name__
        yield from (name for name in vars(each) if not name.startswith("_"))


def settings_in(package: Any) -> Iterator[str]:
    """The settings of Django that the source of a package reads."""
    folder = Path(inspect.getfile(package)).parent
    for path in folder.rglob("*.py"):
        yield from re.findall(r"\bRATELIMIT_[A-Z0-9_]+\b", path.read_text())


def _slowapi() -> Iterator[str]:
    limiter = slowapi.Limiter
    yield from parameters(limiter, limiter.limit, limiter.shared_limit, limiter.exempt, limiter.reset)
    yield from settings(slowapi.extension.C)


def _flask_limiter() -> Iterator[str]:
    limiter = flask_limiter.Limiter
    yield from set(flask_limiter.__all__) - {"Limiter"}
    yield from parameters(limiter, limiter.limit, limiter.shared_limit, limiter.exempt)
    yield from set(members(limiter)) - {"context"}
    yield from parameters(flask_limiter.Limit, flask_limiter.ApplicationLimit, flask_limiter.MetaLimit)
    yield from settings(flask_limiter.constants.ConfigVars)


def _fastapi_limiter() -> Iterator[str]:
    depends = fastapi_limiter.depends
    yield from parameters(depends.RateLimiter, depends.WebSocketRateLimiter)
    yield from ("context_key", "skip_limiter")
    yield from parameters(pyrate_limiter.Limiter, pyrate_limiter.Rate, pyrate_limiter.Limiter.try_acquire)


def _django_ratelimit() -> Iterator[str]:
    core = django_ratelimit.core
    yield from parameters(django_ratelimit.decorators.ratelimit, core.is_ratelimited, core.get_usage)
    yield from settings_in(django_ratelimit)


def _drf() -> Iterator[str]:
    # It reads the settings of Django, which `tests.migration.peers` configures.
    throttling = import_module("rest_framework.throttling")
    yield from members(throttling.BaseThrottle, throttling.SimpleRateThrottle, throttling.ScopedRateThrottle)
    yield from ("AnonRateThrottle", "UserRateThrottle", "DEFAULT_THROTTLE_RATES", "DEFAULT_THROTTLE_CLASSES")
    yield "NUM_PROXIES"


OPTIONS = MappingProxyType(
    {
        "slowapi": _slowapi,
        "flask_limiter": _flask_limiter,
        "fastapi_limiter": _fastapi_limiter,
        "django_ratelimit": _django_ratelimit,
        "drf": _drf,
    }
)


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_every_option_has_a_row(peer: Peer) -> None:
    """The first column of the table of names has every option of the library."""
    table = page_of(peer).read_text().split("\n## What each name becomes\n")[1].split("\n## ")[0]
    cells = "\n".join(line.split(" | ")[0] for line in table.splitlines() if line.startswith("|"))
    named = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", cells))))

    assert set(OPTIONS[peer.name]()) - named == set()
