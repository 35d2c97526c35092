"""Limits of Celery tasks: a refused task runs later, exactly after its wait.

celery --app examples.celery_tasks worker
python -c 'from examples.celery_tasks import send; [send.delay("ada@example.com") for _ in range(5)]'

BROKER is the URL of a Redis server. The limits are there too, so that all workers share them.
"""

import os

from celery import Celery

from awx_ratelimit import Limiter, open_backend
from awx_ratelimit.adapters.celery import limit

BROKER = os.environ.get("BROKER", "redis://localhost:6379")
app = Celery("mail", broker=BROKER)
limiter = Limiter(open_backend(BROKER))


@app.task  # type: ignore[untyped-decorator]  # celery has no types
@limit("2/second", limiter=limiter, subject=lambda address: address)
def send(address: str) -> None:
    """Send an email. Each address gets two a second; the others wait."""
    print(f"sent to {address}")
