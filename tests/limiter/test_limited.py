"""Functions with limits, for threads and for event loops."""

import asyncio
import inspect
import pickle
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial, wraps
from typing import Any

import pytest
from tests.machine import eventually

from awx_ratelimit import AsyncLimiter, Concurrency, InvalidLimit, Limiter, MemoryBackend, Plan, Rate, RateLimited
from awx_ratelimit.errors import ImpossibleClaim
from awx_ratelimit.testing import ManualClock

ONE_SLOT = Plan("one", (), Concurrency(1))


class Calls:
    """Limited functions of one kind, called in the same way."""

    def __init__(self, *, is_async: bool) -> None:
        self.is_async = is_async
        self.clock = ManualClock(1_700_006_400_000)
        self.backend = MemoryBackend(clock=self.clock)
        self.limiter: Any = AsyncLimiter(self.backend) if is_async else Limiter(self.backend)
        self.ran: list[Any] = []

    def function(self, body: Callable[..., Any] | None = None) -> Any:
        """A new function that runs `body` and returns its first argument."""

        def run(*args: Any) -> Any:
            self.ran.append(args)
            if body is not None:
                body(*args)
            return args[0] if args else None

        async def send(*args: Any) -> Any:
            return run(*args)

        def send_now(*args: Any) -> Any:
            return run(*args)

        return send if self.is_async else send_now

    def call(self, function: Any, *args: Any) -> Any:
        return asyncio.run(function(*args)) if self.is_async else function(*args)

    def close(self) -> None:
        """Close the limiter, which refuses all calls that wait."""
        if self.is_async:
            asyncio.run(self.limiter.aclose())
        else:
            self.limiter.close()

    def outcomes(self, function: Any, *each: Any) -> list[bool]:
        """Whether each call, with this argument, ran."""
        return [self._ran(function, argument) for argument in each]

    def _ran(self, function: Any, argument: Any) -> bool:
        try:
            self.call(function, argument)
        except RateLimited:
            return False
        return True


@pytest.fixture(params=["sync", "async"])
def calls(request: pytest.FixtureRequest) -> Calls:
    return Calls(is_async=request.param == "async")


def test_refused_call(calls: Calls) -> None:
    """A refused call raises RateLimited with the decision and the wait, and does not run the function."""
    limited = calls.limiter.limited("2/minute")(calls.function())

    assert [calls.call(limited, number) for number in (1, 2)] == [1, 2]
    with pytest.raises(RateLimited) as caught:
        calls.call(limited, 3)
    assert calls.ran == [(1,), (2,)]
    assert caught.value.retry_after_ms == 30_000
    assert caught.value.decision.allowed is False
    assert str(caught.value).startswith("Too many calls of send")
    assert str(caught.value).endswith(". Retry after 30 seconds.")


def test_exact_wait(calls: Calls) -> None:
    """After the wait of a refusal the call runs, and not a millisecond earlier."""
    limited = calls.limiter.limited("1/minute")(calls.function())
    calls.call(limited)
    calls.clock.advance(59_999)
    early = calls.outcomes(limited, 1)
    calls.clock.advance(1)

    assert early == [False]
    assert calls.outcomes(limited, 1) == [True]


def test_message_has_no_argument(calls: Calls) -> None:
    """The error shows neither the subject nor an argument of the call."""
    limited = calls.limiter.limited("1/minute", subject=str)(calls.function())
    calls.call(limited, "awx_secret")
    with pytest.raises(RateLimited) as caught:
        calls.call(limited, "awx_secret")

    assert "awx_secret" not in f"{caught.value!r} {caught.value}"


def test_pickled_refusal() -> None:
    """A copy for another process keeps the message and the wait."""
    limited = Limiter(MemoryBackend(clock=ManualClock())).limited("1/minute")(Calls(is_async=False).function())
    limited()
    with pytest.raises(RateLimited) as caught:
        limited()
    copy = pickle.loads(pickle.dumps(caught.value))

    assert type(copy) is RateLimited
    assert str(copy) == str(caught.value)
    assert copy.retry_after_ms == 60_000
    assert copy.decision is None


@pytest.mark.parametrize("plan", ["2/minute", Rate.parse("2/minute"), Plan.of("two", per_minute=2)], ids=type)
def test_kinds_of_plans(calls: Calls, plan: Any) -> None:
    """A limit is a notation, a Rate or a Plan."""
    limited = calls.limiter.limited(plan)(calls.function())

    assert calls.outcomes(limited, 1, 2, 3) == [True, True, False]


def test_subject_of_the_arguments(calls: Calls) -> None:
    """A function of the call's arguments says whose limit the call uses."""
    limited = calls.limiter.limited("1/minute", subject=lambda user: f"user_{user}")(calls.function())

    assert calls.outcomes(limited, 1, 2, 1, 2) == [True, True, False, False]


def test_cost_of_the_arguments(calls: Calls) -> None:
    """A function of the call's arguments says what the call costs."""
    limited = calls.limiter.limited("5/minute", cost=lambda pages: pages)(calls.function())

    assert calls.outcomes(limited, 3, 3, 2) == [True, False, True]
    with pytest.raises(ImpossibleClaim, match="no wait can help"):
        calls.call(limited, 6)


def test_cost_above_the_burst(calls: Calls) -> None:
    """A cost that no call could pay is an error when the limit is written."""
    with pytest.raises(InvalidLimit, match=r"^cost 6 is above 5, the largest burst of plan"):
        calls.limiter.limited("5/minute", cost=6)


def test_two_functions(calls: Calls) -> None:
    """Two functions with the same limit and subject never share it, not even its slots."""
    plan = Plan("p", (Rate.parse("1/minute"),), Concurrency(1))
    inner_ran: list[bool] = []
    limit = calls.limiter.limited(plan, subject="user_1")

    def inner_body(*_: Any) -> None:
        inner_ran.append(True)

    one = limit(calls.function())

    def other(*_: Any) -> None:
        inner_body()

    async def async_other(*_: Any) -> None:
        inner_body()

    two = limit(async_other if calls.is_async else other)

    assert calls.outcomes(one, 1, 1) == [True, False]
    assert calls.outcomes(two, 1, 1) == [True, False]
    assert inner_ran == [True]


def test_shared_scope(calls: Calls) -> None:
    """Functions with one `scope` share their buckets."""
    one = calls.limiter.limited("1/minute", scope="mail")(calls.function())
    two = calls.limiter.limited("1/minute", scope="mail")(calls.function())

    assert calls.outcomes(one, 1) + calls.outcomes(two, 1) == [True, False]


def test_waiting_call(calls: Calls) -> None:
    """With `wait_ms` a call waits for room in the limits of its function; beyond the deadline it is refused at once."""
    function = calls.limiter.limited("2/minute", wait_ms=29_999, scope="hurried")(calls.function())
    patient = calls.limiter.limited("2/minute", wait_ms=30_000)(calls.limiter.limited("9/minute")(calls.function()))
    at_once = [calls.outcomes(each, 1, 2) for each in (function, patient)]
    refused = calls.outcomes(function, 3)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(calls.outcomes, patient, 4)
        assert eventually(lambda: calls.clock.alarms, 1) == 1
        calls.clock.advance(30_000)
        waited = waiting.result(30)

    assert at_once == [[True, True]] * 2
    assert refused == [False]
    assert waited == [True]
    assert calls.ran[-1] == (4,)


def test_refused_after_a_wait(calls: Calls) -> None:
    """A call that waits for one limit, and is refused then, leaves the others as if it had never been."""
    plan, direct = Plan("slow", (Rate("slow", 60, 60_000),)), Limiter(calls.backend)
    inner = calls.limiter.limited("1/hour", wait_ms=7_200_000, scope="inner")(calls.function())
    function = calls.limiter.limited(plan, scope="outer")(inner)
    direct.acquire("limited:everyone", plan, 50, scope="outer")
    calls.call(function)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(calls.outcomes, function, 1)
        assert eventually(lambda: calls.clock.alarms, 1) == 1
        calls.clock.advance(30_000)
        calls.close()
        refused = waiting.result(30)

    assert refused == [False]
    assert direct.peek("limited:everyone", plan, scope="outer").usages[0].remaining == 60 - 51 + 30


@pytest.mark.parametrize("wait_ms", [-1, 1.5, True, "1000", None])
def test_wrong_wait(calls: Calls, wait_ms: Any) -> None:
    """A wrong wait is an error when the decorator is written."""
    with pytest.raises(InvalidLimit, match="wait_ms: expected an integer >= 0, got"):
        calls.limiter.limited("2/minute", wait_ms=wait_ms)


def test_scope() -> None:
    """Functions with one name have their own limits: elsewhere, as lambdas, or when one replaces another."""
    limit = Limiter(MemoryBackend()).limited("1/minute")

    def outer() -> Any:
        def same() -> bool:
            return True

        return same

    def other() -> Any:
        def same() -> bool:
            return True

        return same

    def same() -> bool:
        return True

    first = same

    def same() -> bool:  # type: ignore[no-redef]
        return True

    functions = [
        first,
        same,
        outer(),
        other(),
        lambda: True,
        lambda: True,
    ]

    assert [limit(function)() for function in functions] == [True] * 6
    with pytest.raises(RateLimited):
        limit(outer())()


def test_function_without_a_name() -> None:
    """A partial function needs a scope, and keeps it."""
    limiter = Limiter(MemoryBackend())
    with pytest.raises(TypeError, match="scope: a partial has no name; write scope="):
        limiter.limited("1/minute")(partial(print, "x"))

    assert limiter.limited("1/minute", scope="mail")(partial(str, 5))() == "5"


def test_slot(calls: Calls) -> None:
    """The slot is held while the function runs, and comes back when it returns or raises."""
    nested: list[bool] = []

    def body(*args: Any) -> None:
        if args == ("nested",):
            nested.append(True)
        if args == ("fail",):
            raise KeyError

    if calls.is_async:

        @calls.limiter.limited(ONE_SLOT)
        async def work(*args: Any) -> None:
            body(*args)
            if args == ("outer",):
                await work("nested")

        function: Any = work
    else:

        @calls.limiter.limited(ONE_SLOT)
        def work_now(*args: Any) -> None:
            body(*args)
            if args == ("outer",):
                work_now("nested")

        function = work_now

    assert calls.outcomes(function, "outer") == [False]
    assert nested == []
    with pytest.raises(KeyError):
        calls.call(function, "fail")
    assert calls.outcomes(function, "again") == [True]


def test_several_limits(calls: Calls) -> None:
    """A call that one limit of a function refuses is charged by none of them, and gets its slots back."""
    per_user = calls.limiter.limited("1/minute", subject=str)
    in_total = calls.limiter.limited(Plan("p", (Rate.parse("2/minute"),), Concurrency(1)))
    limited = in_total(per_user(calls.function()))

    assert calls.outcomes(limited, 1, 1, 1, 2, 3) == [True, False, False, True, False]


def test_decorator_between_two_limits(calls: Calls) -> None:
    """A decorator between two limits runs between them."""
    between: list[Any] = []

    def traced(function: Any) -> Any:
        if calls.is_async:

            @wraps(function)
            async def trace(*args: Any) -> Any:
                between.append(args)
                return await function(*args)

            return trace

        @wraps(function)
        def trace_now(*args: Any) -> Any:
            between.append(args)
            return function(*args)

        return trace_now

    limit = calls.limiter.limited
    limited = limit("9/minute", scope="outer")(traced(limit("1/minute", scope="inner")(calls.function())))

    assert calls.outcomes(limited, 1, 2) == [True, False]
    assert between == [(1,), (2,)]


def test_name_of_the_function(calls: Calls) -> None:
    """A limited function keeps its name, its signature and its kind."""
    function = calls.function()
    limited = calls.limiter.limited("1/minute")(function)

    assert limited.__name__ == function.__name__
    assert inspect.iscoroutinefunction(limited) is calls.is_async
    assert inspect.signature(limited) == inspect.signature(function)


def test_generator() -> None:
    """A generator is limited when its first value is asked for, and holds its slot until it ends or is closed."""
    limiter = Limiter(MemoryBackend())

    @limiter.limited(ONE_SLOT)
    def rows() -> Iterator[Any]:
        received = yield 1
        yield received

    first, second = rows(), rows()
    assert inspect.isgeneratorfunction(rows)
    assert next(first) == 1
    with pytest.raises(RateLimited):
        next(second)
    assert first.send(7) == 7  # type: ignore[attr-defined]
    assert list(first) == []
    third = rows()
    assert next(third) == 1
    third.close()
    assert list(rows()) == [1, None]


def test_async_generator() -> None:
    """An async generator gets what is sent to it and thrown into it, and holds its slot until it ends or is closed."""
    limiter = AsyncLimiter(MemoryBackend())
    got: list[Any] = []

    @limiter.limited(ONE_SLOT)
    async def rows() -> AsyncIterator[int]:
        try:
            got.append((yield 1))
            yield 2
        except KeyError:
            yield 3
        finally:
            got.append("closed")

    async def run() -> None:
        first: Any = rows()
        assert await first.__anext__() == 1
        with pytest.raises(RateLimited):
            await rows().__anext__()
        assert await first.asend(7) == 2
        assert await first.athrow(KeyError) == 3
        await first.aclose()
        assert [row async for row in rows()] == [1, 2]

    asyncio.run(run())
    assert got == [7, "closed", None, "closed"]


def test_cancelled_call() -> None:
    """A cancelled call gives its slot back."""
    limiter = AsyncLimiter(MemoryBackend())

    @limiter.limited(ONE_SLOT)
    async def wait() -> None:
        await asyncio.Event().wait()

    async def run() -> bool:
        for _ in range(2):
            task = asyncio.ensure_future(wait())
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        return task.cancelled()

    assert asyncio.run(run()) is True


def test_wrong_kind_of_function() -> None:
    """A function of the other kind is a TypeError that names the limiter to use."""

    async def send() -> None: ...

    with pytest.raises(TypeError, match=r"send is async; write AsyncLimiter\(backend\).limited"):
        Limiter(MemoryBackend()).limited("1/minute")(send)
    with pytest.raises(TypeError, match=r"print is not async; write Limiter\(backend\).limited"):
        AsyncLimiter(MemoryBackend()).limited("1/minute")(print)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"plan": "often"}, "expected one rate"),
        ({"plan": 5}, "plan: expected a notation such as '30/minute', a Rate or a Plan, got 5 (int)"),
        (
            {"plan": ["5/minute", "9/day"]},
            "got a list; write Plan.of('limits', per_minute=5, per_hour=100) for several",
        ),
        ({"plan": print}, 'got the function print; write @limiter.limited("30/minute")'),
        (
            {"plan": lambda user: "5/minute"},
            "If the limit varies, write the largest one, and a cost: "
            '@limiter.limited("30/minute", cost=function), where the function takes the arguments of the call; see '
            "docs/tasks.md#a-limit-that-depends-on-the-call",
        ),
        ({"subject": ""}, "subject: expected a non-empty string"),
        ({"subject": asyncio.sleep}, "subject: expected a string or a plain function"),
        ({"cost": 0}, "cost: expected an integer >= 1"),
        ({"cost": 3}, "cost 3 is above 2"),
        ({"scope": "a b"}, "scope: expected 1 to 32"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], said: str) -> None:
    """A wrong argument is an error when the decorator is made."""
    with pytest.raises((InvalidLimit, TypeError)) as caught:
        Limiter(MemoryBackend()).limited(**{"plan": "2/minute", **arguments})

    assert said in str(caught.value)


@pytest.mark.parametrize("thing", [3, Calls, staticmethod(print)])
def test_decorated_things(thing: Any) -> None:
    """Only a function can be decorated."""
    with pytest.raises(TypeError, match="limited: expected a function, got"):
        Limiter(MemoryBackend()).limited("2/minute")(thing)


def test_wrong_results(calls: Calls) -> None:
    """A subject that is no text and a cost that is no number are errors of the call."""
    by_number = calls.limiter.limited("1/minute", subject=lambda user: user)(calls.function())
    priced = calls.limiter.limited("1/minute", cost=lambda user: "1")(calls.function())

    with pytest.raises(TypeError, match="subject: expected a non-empty string as the result, got 5"):
        calls.call(by_number, 5)
    with pytest.raises(TypeError, match="cost: expected an integer >= 1 or a mapping such as"):
        calls.call(priced, 5)
    assert calls.ran == []


def test_scope_of_the_limits(calls: Calls) -> None:
    """The limits of a function are named with its scope, and its buckets are those of no other caller."""
    limited = calls.limiter.limited("2/minute", scope="mail")(calls.function())
    calls.outcomes(limited, 1, 2)

    with pytest.raises(RateLimited) as caught:
        calls.call(limited, 3)
    assert [usage.limit for usage in caught.value.decision.usages] == ["mail.minute"]
    limiter = Limiter(calls.limiter.backend.backend if calls.is_async else calls.limiter.backend)
    assert limiter.peek("everyone", Plan.of("p", per_minute=2), scope="mail").allowed
    limiter.reset("limited:everyone", scope="mail")
    assert calls.call(limited, 4) == 4


@pytest.mark.parametrize("cost", [{"requests": 1, "tokens": 800}, lambda _: {"requests": 1, "tokens": 800}])
def test_cost_by_measure(calls: Calls, cost: Any) -> None:
    """A call may cost several measures."""
    plan = Plan("llm", (Rate("minute", 60, 60_000), Rate("tokens", 1_000, 60_000, measure="tokens")))
    limited = calls.limiter.limited(plan, cost=cost, scope="llm")(calls.function())

    assert calls.outcomes(limited, 1, 2) == [True, False]


@pytest.mark.parametrize("scope", ["account", "service"])
def test_reserved_scopes(scope: str) -> None:
    """A function cannot have the scope of an account or of the service, but may have their names."""
    limiter = Limiter(MemoryBackend())
    with pytest.raises(
        InvalidLimit,
        match=f"scope: expected another name than 'account' and 'service', which plan tables use, got '{scope}'",
    ):
        limiter.limited("1/minute", scope=scope)

    def service() -> None: ...

    limited = limiter.limited("1/minute")(service)
    limited()
    with pytest.raises(RateLimited) as caught:
        limited()
    assert caught.value.decision.usages[0].limit.startswith("service-")
