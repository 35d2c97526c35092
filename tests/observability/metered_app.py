"""A limited WSGI app that publishes its metrics at /metrics, for a server with several workers."""

from typing import Any

from awx_ratelimit import (
    Caller,
    Gate,
    Limiter,
    MemoryBackend,
    Plan,
    PlanTable,
    Rule,
    StaticKeys,
    WsgiRateLimitMiddleware,
)
from awx_ratelimit.observability.prometheus import PrometheusMetrics, wsgi_metrics_app

KEY = "awx_test_metered"
_PLAN = Plan.of("metered", per_day=1_000_000, concurrent=100)


def create_app() -> WsgiRateLimitMiddleware:
    """Create the app."""
    metrics = wsgi_metrics_app()

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/metrics":
            return metrics(environ, start_response)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"hello"]

    gate = Gate(
        Limiter(MemoryBackend(), listeners=[PrometheusMetrics()]),
        plans=PlanTable([_PLAN]),
        identify=StaticKeys({KEY: Caller("key_1", "metered")}),
        rules=[Rule("/metrics", exempt=True)],
    )
    return WsgiRateLimitMiddleware(app, gate=gate)
