"""What OpenTelemetryMetrics gives to a reader of the SDK and to the current span."""

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import INVALID_SPAN_CONTEXT, NonRecordingSpan, use_span
from tests.machine import eventually
from tests.servers.wire import HOST

from awx_ratelimit import Limiter, MemoryBackend, Plan
from awx_ratelimit.observability.opentelemetry import OpenTelemetryMetrics
from awx_ratelimit.testing import ManualClock

STARTER = Plan.of("starter", per_minute=2, concurrent=3)


def _points(reader: InMemoryMetricReader) -> dict[str, list[Any]]:
    data = reader.get_metrics_data()
    assert data is not None
    metrics = [metric for each in data.resource_metrics for scope in each.scope_metrics for metric in scope.metrics]
    return {metric.name: list(metric.data.data_points) for metric in metrics}


def test_counts_reach_a_reader() -> None:
    """Requests, refusals and open leases have the names and attributes of the documentation."""
    reader = InMemoryMetricReader()
    metrics = OpenTelemetryMetrics(MeterProvider([reader]))
    limiter = Limiter(MemoryBackend(clock=ManualClock()), listeners=[metrics])
    for _ in range(3):
        limiter.acquire("key_1", STARTER)
    points = _points(reader)

    requests = {point.attributes["awx_ratelimit.outcome"]: point.value for point in points["awx_ratelimit.requests"]}
    (refusal,) = points["awx_ratelimit.refusals"]
    (leases,) = points["awx_ratelimit.active_request_leases"]
    assert requests == {"allowed": 2, "refused": 1}
    assert dict(refusal.attributes) == {
        "awx_ratelimit.plan": "starter", "awx_ratelimit.limit": "minute", "awx_ratelimit.outcome": "refused",
    }  # fmt: skip
    assert (leases.value, dict(leases.attributes)) == (2, {"awx_ratelimit.plan": "starter"})


def test_refusals_are_events_of_the_span() -> None:
    """The current span gets one event for a refusal and none for an allowed claim."""
    tracer = TracerProvider().get_tracer("test")
    limiter = Limiter(MemoryBackend(clock=ManualClock()), listeners=[OpenTelemetryMetrics(MeterProvider())])
    with tracer.start_as_current_span("request") as span:
        for _ in range(3):
            limiter.acquire("key_1", STARTER)
    events: Any = span.events  # type: ignore[attr-defined]

    (event,) = events
    assert event.name == "rate limit refused"
    assert dict(event.attributes) == {
        "awx_ratelimit.plan": "starter", "awx_ratelimit.limits": ("minute",), "awx_ratelimit.retry_after_ms": 30_000,
    }  # fmt: skip


def test_span_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    """An exception of the tracing library is logged and reaches no request."""

    class Broken(NonRecordingSpan):
        def is_recording(self) -> bool:
            return True

        def add_event(self, *_: Any, **__: Any) -> None:
            raise ZeroDivisionError

    limiter = Limiter(MemoryBackend(clock=ManualClock()), listeners=[OpenTelemetryMetrics(MeterProvider())])
    with use_span(Broken(INVALID_SPAN_CONTEXT)):
        decisions = [limiter.acquire("key_1", STARTER).allowed for _ in range(3)]

    assert decisions == [True, True, False]
    assert "a refusal is not in its trace" in caplog.text


def test_span_events_can_be_switched_off() -> None:
    """Without `span_events`, spans stay as they are."""
    tracer = TracerProvider().get_tracer("test")
    metrics = OpenTelemetryMetrics(MeterProvider(), span_events=False)
    limiter = Limiter(MemoryBackend(clock=ManualClock()), listeners=[metrics])
    with tracer.start_as_current_span("request") as span:
        for _ in range(3):
            limiter.acquire("key_1", STARTER)

    assert not span.events  # type: ignore[attr-defined]


class Collector(BaseHTTPRequestHandler):
    """An OTLP collector: keeps the names of the metrics that it receives."""

    received: ClassVar[set[str]] = set()

    def do_POST(self) -> None:
        request = ExportMetricsServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
        scopes = [scope for each in request.resource_metrics for scope in each.scope_metrics]
        self.received.update(metric.name for scope in scopes for metric in scope.metrics)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


@pytest.fixture
def collector() -> Iterator[str]:
    """The address of a collector."""
    Collector.received.clear()
    with ThreadingHTTPServer((HOST, 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://{HOST}:{server.server_port}/v1/metrics"
        server.shutdown()
        thread.join()


def test_metrics_reach_a_collector(collector: str) -> None:
    """The exporter of OTLP sends the metrics to a collector."""
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(collector), export_interval_millis=60_000)
    provider = MeterProvider([reader])
    limiter = Limiter(MemoryBackend(), listeners=[OpenTelemetryMetrics(provider)])
    limiter.acquire("key_1", STARTER)
    provider.force_flush()
    provider.shutdown()

    assert {"awx_ratelimit.requests", "awx_ratelimit.active_request_leases"} <= Collector.received


def test_collector_that_hangs_delays_no_claim() -> None:
    """While an exporter waits for a collector that does not answer, claims are decided."""
    threads = {*threading.enumerate()}
    with socket.create_server((HOST, 0)) as silent:
        exporter = OTLPMetricExporter(f"http://{HOST}:{silent.getsockname()[1]}/v1/metrics", timeout=60)
        provider = MeterProvider([PeriodicExportingMetricReader(exporter, export_interval_millis=10)])
        limiter = Limiter(MemoryBackend(clock=ManualClock()), listeners=[OpenTelemetryMetrics(provider)])
        limiter.acquire("key_1", STARTER)
        connection, _ = silent.accept()
        outcomes = [limiter.acquire("key_1", STARTER).allowed for _ in range(3)]
        connection.close()
        silent.close()
        provider.shutdown(timeout_millis=1)
    # At its end the exporter's thread logs what later tests do not expect.
    assert eventually(lambda: {*threading.enumerate()} <= threads, expected=True)

    assert outcomes == [True, False, False]
