"""For arq: limits of jobs. A refused job runs later: exactly after its wait, and without counting as a try.

    @limit("100/minute", limiter=AsyncLimiter(open_async_backend("redis://localhost:6379")))
    async def send(ctx, address): ...

Every job with this decorator needs a limiter, which workers share over Redis.
"""

import inspect
import logging
from collections.abc import Callable
from functools import wraps
from typing import Any, Final, NoReturn, TypeVar

from awx_ratelimit.runtime.extras import missing_package

try:
    import arq
    from arq.constants import expires_extra_ms, job_key_prefix, retry_key_prefix
except ModuleNotFoundError as error:
    raise missing_package("limits of jobs need", error) from error

from awx_ratelimit.core.budget import EVERYONE
from awx_ratelimit.core.function_limit import FunctionLimit, function_options, name_of
from awx_ratelimit.core.joint_claim import Cost
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import Rate
from awx_ratelimit.core.validation import type_name
from awx_ratelimit.errors import BackendUnavailable, RateLimited
from awx_ratelimit.limited_functions import _async_admit, _release, _steps, _with_limits
from awx_ratelimit.limiter import AsyncLimiter

__all__ = ["limit"]

_log = logging.getLogger("awx_ratelimit")
_OUTAGE_WAIT_MS: Final = 1_000
_Job = TypeVar("_Job", bound=Callable[..., Any])


@function_options
def limit(
    plan: str | Rate | Plan,
    *,
    limiter: AsyncLimiter,
    subject: str | Callable[..., str] = EVERYONE,
    cost: Cost | Callable[..., Cost] = 1,
    scope: str | None = None,
) -> Callable[[_Job], _Job]:
    """Limit a job, in its own buckets: a decorator for its coroutine function.

    See FunctionLimit for the arguments; functions get the arguments of the job without ``ctx``. `limiter` needs a
    backend that all workers share. A slot is held while the job runs. Several limits of one job are decided together,
    and a refused job is charged by none of them.

    A refused job raises ``arq.Retry`` with exactly its wait. It keeps its id, and its number of tries where arq lets
    us correct it. If the backend cannot decide, the job runs again a second later.
    """
    if not isinstance(limiter, AsyncLimiter):
        got = type_name(limiter)
        raise TypeError(f"limiter: expected an AsyncLimiter, got {got}; write AsyncLimiter(open_async_backend(url))")
    function_limit = FunctionLimit(plan, subject=subject, cost=cost, scope=scope)

    def decorate(job: _Job) -> _Job:
        return _limited(limiter, function_limit, job)  # type: ignore[no-any-return]

    return decorate


def _limited(limiter: AsyncLimiter, limit: FunctionLimit, job: Any) -> Any:
    # All limits of a job are decided together, so that a refused one is charged by none of them.
    steps, bare = _steps(limiter, limit, job)
    name = name_of(bare)
    if not inspect.iscoroutinefunction(job):
        raise TypeError(f"limit: {name} is not async; arq runs coroutine functions only")

    @wraps(job)
    async def limited(ctx: dict[Any, Any], *args: Any, **kwargs: Any) -> Any:
        try:
            charges = await _async_admit(steps, name, args, kwargs)
        except BackendUnavailable as error:
            await _run_later(ctx, _OUTAGE_WAIT_MS, error)
        except RateLimited as error:
            await _run_later(ctx, error.retry_after_ms)
        try:
            return await bare(ctx, *args, **kwargs)
        finally:
            _release(charges)

    return _with_limits(limited, steps, bare)


async def _run_later(ctx: dict[Any, Any], wait_ms: int, error: Exception | None = None) -> NoReturn:
    await _forget_try(ctx, wait_ms)
    raise arq.Retry(defer=wait_ms / 1_000) from error


async def _forget_try(ctx: dict[Any, Any], wait_ms: int) -> None:
    """Take back the try that arq has counted, and keep the job in Redis for longer than the wait.

    After `max_tries` tries, and a day after its time, arq drops a job. It has no public way to run a job later than
    that, so this changes the keys that `arq.constants` names. Without it, a refusal counts as a try.
    """
    redis, job_id = ctx.get("redis"), ctx.get("job_id")
    if redis is None or job_id is None:
        return
    try:
        async with redis.pipeline(transaction=True) as pipe:
            pipe.decr(retry_key_prefix + job_id)
            pipe.pexpire(job_key_prefix + job_id, wait_ms + expires_extra_ms)
            pipe.pexpire(retry_key_prefix + job_id, wait_ms + expires_extra_ms)
            await pipe.execute()
    except Exception as error:
        _log.warning("the refusal of job %s counts as a try: %s", job_id, error)
