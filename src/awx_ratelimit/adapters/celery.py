"""For Celery: limits of tasks. A refused task runs later: exactly after its wait, and without counting as a retry.

    @app.task
    @limit("100/minute", limiter=Limiter(open_backend("redis://localhost:6379")))
    def send(address): ...

It works above and below ``@app.task``, with and without ``bind``.
"""

import inspect
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, Final, NoReturn, TypeVar

from awx_ratelimit.runtime.extras import missing_package

try:
    import celery
    from celery.exceptions import Reject, Retry
except ModuleNotFoundError as error:
    raise missing_package("limits of tasks need", error) from error

from awx_ratelimit.core.budget import EVERYONE
from awx_ratelimit.core.function_limit import FunctionLimit, function_options, name_of
from awx_ratelimit.core.joint_claim import Cost
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import Rate
from awx_ratelimit.core.validation import type_name
from awx_ratelimit.errors import BackendUnavailable, RateLimited
from awx_ratelimit.limited_functions import _admit, _release, _steps, _with_limits
from awx_ratelimit.limiter_sync import Limiter

__all__ = ["limit"]

#: A broker delivers a task again that a worker keeps for longer than its visibility timeout, which is 30 minutes on
#: SQS and an hour on Redis. A task with a longer wait is refused again after this time, and waits for the rest.
_LONGEST_WAIT_S: Final = 900.0
_OUTAGE_WAIT_MS: Final = 1_000
_Task = TypeVar("_Task", bound=Callable[..., Any])


@function_options
def limit(
    plan: str | Rate | Plan,
    *,
    limiter: Limiter,
    subject: str | Callable[..., str] = EVERYONE,
    cost: Cost | Callable[..., Cost] = 1,
    scope: str | None = None,
) -> Callable[[_Task], _Task]:
    """Limit a task, in its own buckets: a decorator above or below ``@app.task``, with or without ``bind=True``.

    See FunctionLimit for the arguments; functions get the arguments of the task without the task itself. `limiter`
    needs a backend that all workers share. A slot is held while the task runs. Several limits of one task are decided
    together, and a refused task is charged by none of them.

    A refused task is sent again with a countdown of exactly its wait. It keeps its id, its callbacks and its number of
    retries, and its state is RETRY until it runs. If the backend cannot decide, the task is sent again for a second
    later. Outside a worker, and with ``task_always_eager``, a refused call raises RateLimited instead.
    """
    if not isinstance(limiter, Limiter):
        raise TypeError(f"limiter: expected a Limiter, got {type_name(limiter)}; write Limiter(open_backend(url))")
    function_limit = FunctionLimit(plan, subject=subject, cost=cost, scope=scope)

    def decorate(task: _Task) -> _Task:
        if isinstance(task, celery.Task):
            task.run = _limited(limiter, function_limit, task.run)
            return task
        return _limited(limiter, function_limit, task)  # type: ignore[no-any-return]

    return decorate


def _limited(limiter: Limiter, limit: FunctionLimit, function: Any) -> Any:
    # All limits of a function are decided together, so that a refused call is charged by none of them.
    steps, bare = _steps(limiter, limit, function)
    name = name_of(bare)
    if inspect.iscoroutinefunction(function):
        raise TypeError(f"limit: {name} is async; Celery runs plain functions only")

    @wraps(function)
    def limited(*args: Any, **kwargs: Any) -> Any:
        own = args[1:] if args and isinstance(args[0], celery.Task) else args
        try:
            charges = _admit(steps, name, own, kwargs)
        except BackendUnavailable as error:
            _send_again(limited, _OUTAGE_WAIT_MS, error)
        except RateLimited as error:
            _send_again(limited, error.retry_after_ms, error)
        try:
            return bare(*args, **kwargs)
        finally:
            _release(charges)

    # Celery reads the signature without following `__wrapped__`, and checks the arguments of calls with it.
    limited.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return _with_limits(limited, steps, bare)


def _send_again(limited: Any, wait_ms: int, error: Exception) -> NoReturn:
    """Send the current task again, or raise `error` if `limited` is not running as a task of a worker.

    `Task.retry` would count a retry, and lose the task if the broker does not answer.
    """
    task = celery.current_task
    if not task or task.request.called_directly or task.request.is_eager or not _runs(task, limited):
        raise error
    wait_s = min(wait_ms / 1_000, _LONGEST_WAIT_S)
    message = task.signature_from_request(task.request, countdown=wait_s, retries=task.request.retries)
    try:
        message.apply_async()
    except Exception as failure:
        if task.acks_late:
            raise Reject(failure, requeue=True) from failure
        raise
    raise Retry(exc=error, when=wait_s, sig=message)


def _runs(task: Any, limited: Any) -> bool:
    """Whether `limited` is the function of `task`, and not called by it."""
    # `autoretry_for` replaces the function of a task and keeps the former one.
    return any(limited in _unwrapped(function) for function in (task.run, getattr(task, "_orig_run", None)))


def _unwrapped(function: Any) -> Iterator[Any]:
    """`function`, and all functions that it wraps."""
    while function is not None:
        yield function
        function = getattr(function, "__func__", None) or getattr(function, "__wrapped__", None)
