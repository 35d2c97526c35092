"""The libraries that docs/migration has a page for, and how their examples are run and frozen."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from unittest.mock import patch
from zlib import crc32

import pyrate_limiter
from tests.migration.clocks import frozen_time
from tests.migration.running import (
    asgi,
    asgi_gate,
    clear_cache,
    django,
    django_gate,
    rest_framework,
    rest_framework_gate,
    wsgi,
    wsgi_gate,
)
from tests.migration.scenarios import SCENARIOS, Scenario
from tests.migration.sites import ADDRESS, Sender, Site
from tests.route_names import no_other_routes

from awx_ratelimit.testing import ManualClock, frozen

ROOT = Path(__file__).parents[2]
#: Nothing listens there.
UNREACHABLE = "redis://127.0.0.1:1"
_REDIS_CACHE = "django.core.cache.backends.redis.RedisCache"
_MIDNIGHT_MS = 1_700_006_400_000


class Peer(NamedTuple):
    """A library, and what is special about its examples."""

    #: The name of its folder in examples/migration, and of its page.
    name: str
    #: As users write it.
    title: str
    package: str
    #: What reads the time in it: see `frozen_time`.
    time_readers: tuple[str, ...]
    #: Clears the limits of the module `before`.
    reset: Callable[[Any], object]
    #: Runs an app of it, and finds the gate of that after the move.
    run: Callable[[ModuleType], AbstractContextManager[Sender]]
    gate: Callable[[ModuleType], Any]
    #: When its clock starts, in milliseconds after midnight.
    start_ms: int = 0
    #: What its app cannot show, because the library has nothing of the kind.
    without: frozenset[str] = frozenset()

    def scenarios(self) -> list[Scenario]:
        """Return the scenarios of its page."""
        return [each for name, each in SCENARIOS.items() if name not in self.without]


def _flush(module: Any) -> None:
    for value in vars(module).values():
        if isinstance(value, pyrate_limiter.Limiter):
            factory: Any = value.bucket_factory
            bucket = factory.bucket
            # Ends its thread, which only removes old entries.
            value.dispose(bucket)
            bucket.flush()


_CACHE = ("django.core.cache.backends.base.time", "django.core.cache.backends.locmem.time")
_LIMITS = ("limits.storage.memory.time", "limits.strategies.time")
#: Limits that are charged by the response's status.
_BY_STATUS = frozenset({"wrong_codes", "right_codes", "parallel_guesses"})
_COSTS = frozenset({"cost", "refused_cost"})
_STRATEGIES = frozenset({"edge_of_a_moving_window", "greedy_client_in_a_moving_window"})
_WEBSOCKETS = frozenset({"websocket_messages"})
#: Those of `tests.migration.conditional_limits`.
_CONDITIONS = frozenset({"limit_of_a_method", "exempt_when", "month"})
_VIEWS = frozenset({"wrong_codes_by_body", "right_codes_by_body", "limit_of_a_blueprint", "limit_in_a_view"})
_DJANGO = _BY_STATUS | _COSTS | _STRATEGIES | _WEBSOCKETS | _CONDITIONS | _VIEWS | {"included_router", "mounted_app"}
#: django-ratelimit begins the windows of each key at another moment: those of minutes and hours of this address.
_START_OF_A_WINDOW_MS = (crc32(ADDRESS.encode()) % 3_600 + 1) * 1_000
PEERS = (
    Peer(
        "slowapi",
        "slowapi",
        "slowapi",
        (*_LIMITS, "slowapi.extension.time"),
        lambda module: module.limiter.reset(),
        asgi,
        asgi_gate,
        without=_BY_STATUS | _WEBSOCKETS | _VIEWS,
    ),
    Peer(
        "flask_limiter",
        "Flask-Limiter",
        "flask-limiter",
        (*_LIMITS, "flask_limiter._extension.time"),
        lambda module: module.limiter.reset(),
        wsgi,
        wsgi_gate,
        without=_WEBSOCKETS | {"mounted_app"},
    ),
    Peer(
        "fastapi_limiter",
        "fastapi-limiter",
        "fastapi-limiter",
        ("pyrate_limiter.clocks.monotonic_ns",),
        _flush,
        asgi,
        asgi_gate,
        # Its limits are in memory, and it does not work with included routers.
        without=_BY_STATUS | _COSTS | _STRATEGIES | _CONDITIONS | _VIEWS | {"included_router", "mounted_app", "outage"},
    ),
    Peer(
        "django_ratelimit",
        "django-ratelimit",
        "django-ratelimit",
        ("django_ratelimit.core.time", *_CACHE),
        clear_cache,
        django,
        django_gate,
        start_ms=_START_OF_A_WINDOW_MS,
        without=_DJANGO,
    ),
    Peer(
        "drf",
        "DRF throttling",
        "djangorestframework",
        ("rest_framework.throttling.SimpleRateThrottle.timer", *_CACHE),
        clear_cache,
        rest_framework,
        rest_framework_gate,
        without=_DJANGO,
    ),
)


class Row(NamedTuple):
    """What a scenario shows before and after the move."""

    title: str
    before: str
    after: str


def row_of(peer: Peer, scenario: Scenario) -> Row:
    """Return what a client observes in both apps."""
    with site_before(peer, is_outage=scenario.is_outage) as site:
        before = scenario.observe(site)
    with site_after(peer, is_outage=scenario.is_outage) as site:
        after = scenario.observe(site)
    return Row(scenario.title, before, after)


@contextmanager
def site_before(peer: Peer, *, is_outage: bool = False) -> Iterator[Site]:
    """The app on the library, with unused limits."""
    module = _loaded(peer, "before", is_outage=is_outage)
    clock = ManualClock(_MIDNIGHT_MS + peer.start_ms)
    with frozen_time(peer.time_readers, clock), peer.run(module) as sender:
        if not is_outage:
            peer.reset(module)
        yield Site(sender, clock, module)


@contextmanager
def site_after(peer: Peer, *, is_outage: bool = False) -> Iterator[Site]:
    """The app on this library, with unused limits."""
    module = _loaded(peer, "after", is_outage=is_outage)
    with no_other_routes(), peer.run(module) as sender, frozen(peer.gate(module)) as clock:
        yield Site(sender, clock, module)


@contextmanager
def site_in_shadow(peer: Peer) -> Iterator[Site]:
    """The app on the library, with the limits of this one beside it in shadow."""
    module = _loaded(peer, "shadow")
    with no_other_routes(), site_before(peer) as before, peer.run(module) as sender, frozen(peer.gate(module)):
        # Users import the app that they put into the middleware, so it is another one than that of `site_before`.
        peer.reset(import_module(f"examples.migration.{peer.name}.before"))
        yield Site(sender, before.clock, module)


@cache
def _loaded(peer: Peer, name: str, *, is_outage: bool = False) -> ModuleType:
    """A module of a library's example, loaded for these tests; for an outage with a storage that is unreachable."""
    module = f"migration_{peer.name}_{name}{'_without_redis' * is_outage}"
    spec = spec_from_file_location(module, ROOT / f"examples/migration/{peer.name}/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    sys.modules[module] = made = module_from_spec(spec)
    environment = {"LIMITS_URL": UNREACHABLE, "CACHE": _REDIS_CACHE} if is_outage else {}
    with patch.dict(os.environ, environment), no_other_routes():
        spec.loader.exec_module(made)
    return made
