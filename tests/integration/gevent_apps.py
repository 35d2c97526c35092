"""An app for gunicorn's gevent worker with limits at AWX_TEST_BACKEND. Each response names the deciding process."""

import os
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from awx_ratelimit import Gate, Limiter, Plan, PlanTable, Rule, StaticKeys
from awx_ratelimit.adapters.werkzeug import RateLimitMiddleware
from awx_ratelimit.backends.open import open_backend

KEY = "awx_test_shared"
PLAN = Plan.of("ample", per_minute=1_000_000, concurrent=100_000)
#: Created when gunicorn loads this module.
APP = "tests.integration.gevent_apps:make()"


def make() -> Any:
    """Create the app."""
    limiter = Limiter(open_backend(os.environ["AWX_TEST_BACKEND"]))
    gate = Gate(
        limiter,
        plans=PlanTable([PLAN], default="ample"),
        identify=StaticKeys({KEY: "ample"}),
        rules=[Rule("/health", exempt=True)],
    )
    return RateLimitMiddleware(partial(_app, limiter), gate=gate)


def _app(limiter: Limiter, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] == "/health":
        return [str(limiter.health()["state"]).encode()]
    return [b"backend" if environ["awx_ratelimit.decision"].plan is PLAN else b"local"]
