"""Keys of one account, with a limit for each key and one that the keys share, as each library's documentation shows.

The order in which the two limits are decided is the one in which they are declared.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

from fakeredis import FakeAsyncRedis, FakeServer
from fastapi import Depends, FastAPI, Request, Response
from fastapi_limiter.depends import RateLimiter
from flask import Flask, request
from flask_limiter import Limiter as FlaskLimiter
from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from pyrate_limiter import AbstractBucket, BucketFactory, InMemoryBucket, RateItem
from pyrate_limiter import Limiter as PyrateLimiter
from pyrate_limiter import Rate as PyrateRate
from redis_fastapi import rate_limit
from redis_fastapi.deps import get_rate_limit_backend
from redis_fastapi.ratelimit import add_redis_rate_limiting
from redis_fastapi.ratelimit_backend import RateLimitBackend, _BackendCapabilities
from slowapi import Limiter as SlowLimiter
from slowapi import _rate_limit_exceeded_handler
from slowapi.errors import RateLimitExceeded
from tests.comparison.subject import NAMES, Limit, standing_clock
from tests.migration.running import asgi_gate
from tests.migration.sites import ADDRESS, AsgiSender, Sender, WsgiSender
from throttled import MemoryStore, Throttled, rate_limiter

from awx_ratelimit import Caller, Plan, Rate, RateLimitMiddleware
from awx_ratelimit.testing import ManualClock, frozen

KEYS = ("mine", "theirs")


class Shared(NamedTuple):
    """A limit, and whose it is: each key's, or the account's."""

    limit: Limit
    is_of_account: bool

    def owner(self, key: str) -> str:
        """Who is charged for a request of `key`."""
        return "acme" if self.is_of_account else key

    @property
    def notation(self) -> str:
        """The limit as ``5/minute``."""
        return f"{self.limit[0]}/{NAMES[self.limit[1]]}"


class Account(NamedTuple):
    """An account with two keys, and the clock that its limits read."""

    #: Whether a request of a key is admitted.
    ask: Callable[[str], bool]
    clock: ManualClock


Build = Callable[[list[Shared]], AbstractContextManager[Account]]


def sending_key(sender: Sender) -> Callable[[str], bool]:
    """Ask by a request with a key."""
    return lambda key: sender.send("/", "GET", ADDRESS, {"x-api-key": key}).status == 200


def _page() -> str:
    return "hello"


@contextmanager
def awx(limits: list[Shared]) -> Iterator[Account]:
    """A plan with limits of its account, which are decided together."""
    rates = {each.is_of_account: Rate("rate", each.limit[0], each.limit[1] * 1_000) for each in limits}
    plan = Plan("customer", (rates[False],), account=Plan("account", (rates[True],)))
    app = FastAPI()
    app.get("/")(_page)
    keys = {key: Caller(key, account="acme", plan="customer") for key in KEYS}
    app.add_middleware(RateLimitMiddleware, keys=keys, plans=[plan])
    with asyncio.Runner() as runner, frozen(asgi_gate(_Module(app))) as clock:  # type: ignore[arg-type]
        yield Account(sending_key(AsgiSender(app, runner.get_loop())), clock)


class _Module(NamedTuple):
    app: FastAPI


@contextmanager
def slowapi(limits: list[Shared]) -> Iterator[Account]:
    """Two decorators; the lower one is decided first."""
    limiter = SlowLimiter(key_func=lambda request: request.headers["x-api-key"])
    app = FastAPI()
    app.state.limiter = limiter
    app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)  # type: ignore[arg-type]

    async def page(request: Request, response: Response) -> str:
        return "hello"

    view: Any = page
    for each in limits:
        view = limiter.limit(each.notation, key_func=_owner_of_request(each))(view)
    app.get("/")(view)
    with (
        standing_clock("limits.storage.memory.time", "limits.strategies.time", "slowapi.extension.time") as clock,
        asyncio.Runner() as runner,
    ):
        yield Account(sending_key(AsgiSender(app, runner.get_loop())), clock)


def _owner_of_request(each: Shared) -> Callable[[Request], str]:
    # slowapi finds out by the name of the argument that it wants the request.
    return lambda request: each.owner(request.headers["x-api-key"])


@contextmanager
def flask_limiter(limits: list[Shared]) -> Iterator[Account]:
    """Two decorators. The library sorts the limits by their periods."""
    app = Flask(__name__)
    limiter = FlaskLimiter(lambda: request.headers["x-api-key"], app=app, storage_uri="memory://")
    view: Any = _page
    for each in limits:
        view = limiter.limit(each.notation, key_func=_owner_in_flask(each))(view)
    app.add_url_rule("/", view_func=view)
    readers = ("limits.storage.memory.time", "limits.strategies.time", "flask_limiter._extension.time")
    with standing_clock(*readers) as clock:
        yield Account(sending_key(WsgiSender(app)), clock)


def _owner_in_flask(each: Shared) -> Callable[[], str]:
    return lambda: each.owner(request.headers["x-api-key"])


@contextmanager
def limits(limits: list[Shared]) -> Iterator[Account]:
    """One call for each limit."""
    strategy = FixedWindowRateLimiter(MemoryStorage())
    items = [(each, parse(each.notation)) for each in limits]
    with standing_clock("limits.storage.memory.time", "limits.strategies.time") as clock:
        yield Account(lambda key: all(strategy.hit(item, each.owner(key)) for each, item in items), clock)


@contextmanager
def throttled(limits: list[Shared]) -> Iterator[Account]:
    """One call for each limit."""
    store = MemoryStore()
    per = {"minute": rate_limiter.per_min, "hour": rate_limiter.per_hour}
    made = [(each, Throttled(quota=per[NAMES[each.limit[1]]](each.limit[0]), store=store)) for each in limits]
    with standing_clock("throttled.utils.time") as clock:
        yield Account(lambda key: not any(one.limit(each.owner(key)).limited for each, one in made), clock)


class _Buckets(BucketFactory):
    """A bucket for each name."""

    def __init__(self, limit: Limit) -> None:
        self._rate = PyrateRate(limit[0], limit[1] * 1_000)
        self._buckets: dict[str, InMemoryBucket] = {}

    def wrap_item(self, name: str, weight: int = 1) -> RateItem:
        return RateItem(name, self._bucket(name).now(), weight=weight)

    def get(self, item: RateItem) -> AbstractBucket:
        bucket: AbstractBucket = self._bucket(item.name)
        return bucket

    def _bucket(self, name: str) -> Any:
        return self._buckets.setdefault(name, InMemoryBucket([self._rate]))


@contextmanager
def pyrate(limits: list[Shared]) -> Iterator[Account]:
    """One limiter for each limit, with a bucket for each key."""
    made = [(each, PyrateLimiter(_Buckets(each.limit))) for each in limits]

    def ask(key: str) -> bool:
        return all(one.try_acquire(each.owner(key), blocking=False) for each, one in made)

    with standing_clock("pyrate_limiter.clocks.monotonic_ns") as clock:
        yield Account(ask, clock)


@contextmanager
def fastapi_limiter(limits: list[Shared]) -> Iterator[Account]:
    """One dependency for each limit, on limiters with a bucket for each key."""
    app = FastAPI()
    made = [RateLimiter(PyrateLimiter(_Buckets(each.limit)), identifier=_identifier(each)) for each in limits]
    app.get("/", dependencies=[Depends(one) for one in made])(_page)
    with standing_clock("pyrate_limiter.clocks.monotonic_ns") as clock, asyncio.Runner() as runner:
        yield Account(sending_key(AsgiSender(app, runner.get_loop())), clock)


def _identifier(each: Shared) -> Callable[[Request], Any]:
    async def identify(request: Request) -> str:
        return each.owner(request.headers["x-api-key"])

    return identify


@contextmanager
def redis_sdk(limits: list[Shared]) -> Iterator[Account]:
    """One dependency for each limit, on a Redis that is simulated."""
    app = FastAPI()
    add_redis_rate_limiting(app)
    made = [rate_limit(each.notation, scope=each.notation, identifier=_identifier(each)) for each in limits]
    app.get("/", dependencies=[Depends(one) for one in made])(_page)
    with on_simulated_redis(app) as (sender, clock):
        yield Account(sending_key(sender), clock)


@contextmanager
def on_simulated_redis(app: FastAPI) -> Iterator[tuple[Sender, ManualClock]]:
    """An app of fastapi-redis-sdk."""
    redis = FakeAsyncRedis(server=FakeServer())
    app.dependency_overrides[get_rate_limit_backend] = lambda: RateLimitBackend(
        redis, capabilities=_BackendCapabilities(supports_increx=False)
    )
    readers = ("fakeredis._socket._base.time", "redis_fastapi.ratelimit_backend.time")
    with standing_clock(*readers) as clock, asyncio.Runner() as runner:
        yield AsgiSender(app, runner.get_loop()), clock
        runner.run(redis.aclose())
