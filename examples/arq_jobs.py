"""Limits of arq's jobs: a refused job runs later, exactly after its wait.

arq examples.arq_jobs.WorkerSettings

BROKER is the URL of a Redis server. The limits are there too, so that all workers share them.
"""

import os
from typing import Any, ClassVar

from arq.connections import RedisSettings

from awx_ratelimit import AsyncLimiter, open_async_backend
from awx_ratelimit.adapters.arq import limit

BROKER = os.environ.get("BROKER", "redis://localhost:6379")
limiter = AsyncLimiter(open_async_backend(BROKER))


@limit("2/second", limiter=limiter, subject=lambda address: address)
async def send(ctx: dict[Any, Any], address: str) -> str:
    """Send an email. Each address gets two a second; the others wait."""
    return f"job {ctx['job_id']} sent to {address}"


class WorkerSettings:
    """The settings of the worker."""

    functions: ClassVar[list[Any]] = [send]
    redis_settings = RedisSettings.from_dsn(BROKER)
