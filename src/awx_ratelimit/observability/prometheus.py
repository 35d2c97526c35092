"""Prometheus metrics of limiters. Requires the extra ``prometheus``.

    metrics = PrometheusMetrics()
    limiter = AsyncLimiter(backend, listeners=[metrics])
    app.mount("/metrics", metrics_app())        # or wsgi_metrics_app() in a WSGI app

With several processes, set the environment variable ``PROMETHEUS_MULTIPROC_DIR`` to an empty folder before they start,
as prometheus_client asks for. Each process then writes its counts there once a second, and each shows the sums.
"""

from typing import TYPE_CHECKING

from awx_ratelimit.runtime.extras import lazy_exports

if TYPE_CHECKING:
    from awx_ratelimit.observability.prometheus_exporter import PrometheusMetrics, metrics_app, wsgi_metrics_app

__all__ = ["PrometheusMetrics", "metrics_app", "wsgi_metrics_app"]

__getattr__ = lazy_exports(
    __name__,
    dict.fromkeys(__all__, "awx_ratelimit.observability.prometheus_exporter"),
    extra="prometheus",
    packages={"prometheus_client": "prometheus-client"},
)
