"""OpenTelemetry metrics of limiters, and an event on the current span for each refusal.

    limiter = AsyncLimiter(backend, listeners=[OpenTelemetryMetrics()])

The metrics go to the global MeterProvider of your application, unless you give another. Requires the extra
``opentelemetry``.
"""

from typing import TYPE_CHECKING

from awx_ratelimit.runtime.extras import lazy_exports

if TYPE_CHECKING:
    from awx_ratelimit.observability.opentelemetry_exporter import OpenTelemetryMetrics

__all__ = ["OpenTelemetryMetrics"]

__getattr__ = lazy_exports(
    __name__,
    {"OpenTelemetryMetrics": "awx_ratelimit.observability.opentelemetry_exporter"},
    extra="opentelemetry",
    packages={"opentelemetry": "opentelemetry-api"},
)
