"""Functions with limits: what the decorators of `Limiter.limited` and `AsyncLimiter.limited` return."""

import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import suppress
from functools import wraps
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar, cast

from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.function_limit import FunctionLimit, name_of, refusal
from awx_ratelimit.errors import BackendUnavailable

#: On a limited function: its limits, and the function without them.
_LIMITS: Final = "__awx_ratelimit_limits__"
Function = TypeVar("Function", bound=Callable[..., Any])
#: A limiter, what it has decided, and its limit.
_Charge: TypeAlias = tuple[Any, Decision]


class _Step(NamedTuple):
    """One limit on a function, and the limiter that decides it."""

    limiter: Any
    limit: FunctionLimit
    scope: str
    #: A later limit may wait, and be refused then: what this one has charged is given back exactly.
    is_declared: bool


class _Limits(NamedTuple):
    """The limits of a function, in the order of their decisions. `limited` is the function that has them."""

    steps: tuple[_Step, ...]
    function: Any
    limited: Any


def limited(limiter: Any, limit: FunctionLimit, function: Function) -> Function:
    """`function` with `limit`, decided by a Limiter. See `Limiter.limited`."""
    steps, bare = _steps(limiter, limit, function)
    name = name_of(bare)
    if inspect.iscoroutinefunction(bare) or inspect.isasyncgenfunction(bare):
        raise TypeError(f"limited: {name} is async; write AsyncLimiter(backend).limited(...)")

    @wraps(bare)
    def call(*args: Any, **kwargs: Any) -> Any:
        charges = _admit(steps, name, args, kwargs)
        try:
            return bare(*args, **kwargs)
        finally:
            _release(charges)

    @wraps(bare)
    def generate(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        charges = _admit(steps, name, args, kwargs)
        try:
            return (yield from bare(*args, **kwargs))
        finally:
            _release(charges)

    return cast(Function, _with_limits(generate if inspect.isgeneratorfunction(bare) else call, steps, bare))


def async_limited(limiter: Any, limit: FunctionLimit, function: Function) -> Function:
    """`function` with `limit`, decided by an AsyncLimiter. See `AsyncLimiter.limited`."""
    steps, bare = _steps(limiter, limit, function)
    name = name_of(bare)
    if not inspect.iscoroutinefunction(bare) and not inspect.isasyncgenfunction(bare):
        raise TypeError(f"limited: {name} is not async; write Limiter(backend).limited(...)")

    @wraps(bare)
    async def call(*args: Any, **kwargs: Any) -> Any:
        charges = await _async_admit(steps, name, args, kwargs)
        try:
            return await bare(*args, **kwargs)
        finally:
            _release(charges)

    @wraps(bare)
    async def generate(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        charges = await _async_admit(steps, name, args, kwargs)
        values = bare(*args, **kwargs)
        try:
            step = values.asend(None)
            while True:
                try:
                    value = await step
                except StopAsyncIteration:
                    return
                try:
                    step = values.asend((yield value))
                except GeneratorExit:
                    raise
                except BaseException as error:  # what the caller throws goes into the generator
                    step = values.athrow(error)
        finally:
            try:
                await values.aclose()
            finally:
                _release(charges)

    return cast(Function, _with_limits(generate if inspect.isasyncgenfunction(bare) else call, steps, bare))


def _steps(limiter: Any, limit: FunctionLimit, function: Any) -> tuple[tuple[_Step, ...], Any]:
    """All limits of `function` with this one, and the function without any.

    The limits of one function are decided together, so that a refused call is charged by none of them.
    """
    known: _Limits | None = getattr(function, _LIMITS, None)
    # Other decorators copy the attributes of a function; they must stay around it.
    steps, bare = (known.steps, known.function) if known and known.limited is function else ((), function)
    name = scope = limit.scope_of(bare)
    scopes = [step.scope for step in steps]
    if scope in scopes:
        scope = f"{name[:28]}-{len(scopes) + 1}"
    is_declared = any(step.limit.wait_ms for step in steps)
    return (_Step(limiter, limit, scope, is_declared), *steps), bare


def _with_limits(limited: Any, steps: tuple[_Step, ...], function: Any) -> Any:
    setattr(limited, _LIMITS, _Limits(steps, function, limited))
    return limited


def _admit(steps: tuple[_Step, ...], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[_Charge]:
    """Decide every limit of a call. Raises RateLimited; the call is then charged by none of them."""
    charges: list[_Charge] = []
    try:
        for limiter, limit, scope, is_declared in steps:
            claim = limit.claim(scope, args, kwargs, declared=is_declared)
            decision = limiter.claim_jointly(claim, limit.wait_ms)
            _check_allowed(name, decision)
            charges.append((limiter, decision))
    except BaseException:
        _release(charges)
        for limiter, decision in charges:
            with suppress(BackendUnavailable):
                limiter.refund(decision)
        raise
    return charges


async def _async_admit(
    steps: tuple[_Step, ...], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> list[_Charge]:
    charges: list[_Charge] = []
    try:
        for limiter, limit, scope, is_declared in steps:
            claim = limit.claim(scope, args, kwargs, declared=is_declared)
            decision = await limiter.claim_jointly(claim, limit.wait_ms)
            _check_allowed(name, decision)
            charges.append((limiter, decision))
    except BaseException:
        _release(charges)
        for limiter, decision in charges:
            with suppress(BackendUnavailable):
                await limiter.refund(decision)
        raise
    return charges


def _release(charges: list[_Charge]) -> None:
    """Free the slots. It neither waits nor raises."""
    for limiter, decision in charges:
        limiter.give_back(decision)


def _check_allowed(name: str, decision: Decision) -> None:
    if not decision.allowed:
        raise refusal(name, decision)
