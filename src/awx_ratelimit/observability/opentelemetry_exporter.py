"""What `observability.opentelemetry` exports, on the API of OpenTelemetry."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.metrics import CallbackOptions, Histogram, MeterProvider, Observation

from awx_ratelimit.core.decision import Decision
from awx_ratelimit.observability import families
from awx_ratelimit.observability.families import Family
from awx_ratelimit.observability.limit_metrics import COUNTERS, GAUGES, Labels, LimitMetrics, Observes
from awx_ratelimit.observability.listeners import Listener

_log = logging.getLogger("awx_ratelimit")


class OpenTelemetryMetrics(LimitMetrics):
    """A listener that publishes what limiters do. Give one to all limiters of the process.

    No attribute of a metric is ever a subject, a key, a path or an address. Plans beyond the first 1,000 share one
    attribute value. With `span_events`, each refusal adds the event ``rate limit refused`` to the current span, with
    the plan, the limits and the wait.
    """

    def __init__(self, meter_provider: MeterProvider | None = None, *, span_events: bool = True) -> None:
        meter = metrics.get_meter("awx_ratelimit", meter_provider=meter_provider)
        self._span_events = span_events
        self._histograms = {
            family: meter.create_histogram(
                family.name, family.unit, family.description, explicit_bucket_boundaries_advisory=family.bounds
            )
            for family in families.FAMILIES
            if family.kind == "histogram"
        }
        super().__init__(self._histogram_of)
        for family in COUNTERS:
            read = _reader(family, self.counts)
            meter.create_observable_counter(family.name, [read], family.unit, family.description)
        for family in GAUGES:
            read = _reader(family, self._counts_now)
            meter.create_observable_up_down_counter(family.name, [read], family.unit, family.description)

    def _counts_now(self, family: Family) -> Mapping[Labels, int]:
        self.observe_ended()
        return self.counts(family)

    def reporter(self, release: Listener) -> Listener:
        count = super().reporter(release)

        def report(decision: Decision) -> None:
            count(decision)
            if not decision.allowed:
                _add_event(decision)

        return report if self._span_events else count

    def _histogram_of(self, family: Family, labels: Labels) -> Observes:
        return _LabelledHistogram(self._histograms[family], _attributes(family, labels))


class _LabelledHistogram:
    """One set of attributes of a histogram."""

    def __init__(self, histogram: Histogram, attributes: Mapping[str, str]) -> None:
        self._histogram = histogram
        self._attributes = dict(attributes)

    def observe(self, amount: float) -> None:
        self._histogram.record(amount, self._attributes)


def _attributes(family: Family, labels: Labels) -> dict[str, str]:
    # An empty text says the same as no attribute.
    return {f"awx_ratelimit.{name}": label for name, label in zip(family.labels, labels, strict=True) if label}


def _reader(
    family: Family, values: Callable[[Family], Mapping[Labels, int]]
) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def read(_: CallbackOptions) -> Iterator[Observation]:
        for labels, value in values(family).items():
            yield Observation(value, _attributes(family, labels))

    return read


def _add_event(decision: Decision) -> None:
    try:
        _add_event_to(trace.get_current_span(), decision)
    except Exception:
        # Spans may be of any library.
        _log.exception("a refusal is not in its trace")


def _add_event_to(span: trace.Span, decision: Decision) -> None:
    if span.is_recording():
        refused = [usage for usage in decision.usages if usage.refused and not usage.shadow]
        attributes: Any = {
            "awx_ratelimit.plan": decision.plan.name,
            "awx_ratelimit.limits": [usage.limit for usage in refused],
            "awx_ratelimit.retry_after_ms": decision.retry_after_ms,
        }
        span.add_event("rate limit refused", attributes)
