"""What `observability.prometheus` exports, on the package prometheus_client."""

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    make_asgi_app,
    make_wsgi_app,
)
from prometheus_client.metrics_core import Metric

from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.validation import check_bool
from awx_ratelimit.observability import families
from awx_ratelimit.observability.families import Family
from awx_ratelimit.observability.limit_metrics import COUNTERS, GAUGES, Labels, LimitMetrics, Observes
from awx_ratelimit.observability.listeners import Listener
from awx_ratelimit.observability.prometheus_files import FOLDER, AllProcesses
from awx_ratelimit.runtime.documentation import page
from awx_ratelimit.runtime.event_loops import in_thread
from awx_ratelimit.runtime.exits import register_at_exit
from awx_ratelimit.runtime.forks import ForkSafeLock, register_around_fork, register_first_decision
from awx_ratelimit.runtime.periodic_thread import PeriodicThread
from awx_ratelimit.runtime.server_workers import WorkerWarning

_warning = WorkerWarning(
    "PrometheusMetrics is per process: with {workers} {server} workers, each scrape shows the numbers of one of them. "
    f"Set {FOLDER} to an empty folder before the server starts, or warn_of_workers=False if each has an address of its "
    "own: see {page}"
)
_PUBLISH_S: Final = 1.0
#: Longer than it takes to publish.
_MAX_PUBLISHING_S: Final = 2.0


class PrometheusMetrics(LimitMetrics):
    """A listener that publishes what limiters do in `registry`. Give one to all limiters of the process.

    No label is ever a subject, a key, a path or an address. Plans beyond the first 1,000 share one label. With
    ``PROMETHEUS_MULTIPROC_DIR`` the metrics are in its files and not in `registry`. Without it, this logs a warning if
    the process is one of several workers of a server; `warn_of_workers=False` is for workers that are scraped at an
    address each. Raises ValueError if `registry` has another PrometheusMetrics, and InvalidLimit for a wrong option.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY, *, warn_of_workers: bool = True) -> None:
        check_bool(warn_of_workers, "warn_of_workers")
        self._publishing = ForkSafeLock()
        self._thread = PeriodicThread("awx-metrics", self.publish, _PUBLISH_S)
        self._is_shared = FOLDER in os.environ
        self._warns = warn_of_workers and not self._is_shared
        super().__init__(self._histogram_of)
        if self._is_shared:
            register_at_exit(self.flush)
        else:
            _register(registry, _Collector(self))
        register_around_fork(self._pause, self._resume)
        register_first_decision(self._check_workers)

    def _renew(self) -> None:
        super()._renew()
        #: Made when they are needed: most children of a program publish nothing. Another thread may have locked those
        #: of the parent during the fork.
        self._metrics: dict[Family, Any] = {}
        self._published: dict[tuple[Family, Labels], int] = {}
        self._is_publishing = self._is_paused = False
        self._thread.renew()

    def watch(self, limiter: Any) -> None:
        super().watch(limiter)
        self._check_workers()

    def _check_workers(self) -> None:
        if self._warns and self._limiters:
            _warning.log(page("metrics", "several-processes"))

    def _pause(self) -> None:
        # prometheus_client has a lock for all files, which no child can replace.
        if self._is_shared:
            self._is_paused = self._publishing.current.acquire(timeout=_MAX_PUBLISHING_S)

    def _resume(self) -> None:
        # In this order: another thread may fork, too.
        is_paused, self._is_paused = self._is_paused, False
        if is_paused:
            self._publishing.current.release()

    def _metric_of(self, family: Family) -> Any:
        return self._metrics.get(family) or self._metrics.setdefault(family, _metric(family))

    def _histogram_of(self, family: Family, labels: Labels) -> Observes:
        observes: Observes = self._metric_of(family).labels(*labels)
        return observes

    def reporter(self, release: Listener) -> Listener:
        count = super().reporter(release)
        if not self._is_shared:
            return count

        def report(decision: Decision) -> None:
            # Not before: a server may fork its workers after it has built the app.
            if not self._is_publishing:
                self._is_publishing = self._thread.try_start()
            count(decision)

        return report

    def publish(self) -> None:
        """Write the counts to the metrics of prometheus_client. A thread does so every second in shared mode."""
        with self._publishing.current:
            self.observe_ended()
            for family in COUNTERS:
                for labels, count in self.counts(family).items():
                    before = self._published.get((family, labels), 0)
                    if count > before:
                        _labelled(self._metric_of(family), labels).inc(count - before)
                        self._published[family, labels] = count
            for family in GAUGES:
                for labels, value in self.counts(family).items():
                    _labelled(self._metric_of(family), labels).set(value)

    def flush(self) -> None:
        if self._is_shared:
            self.publish()

    def collect(self) -> Iterator[Metric]:
        """The current metrics."""
        self.publish()
        for family in families.FAMILIES:
            yield from self._metric_of(family).collect()


class _Collector:
    """What a registry asks for metrics."""

    def __init__(self, metrics: PrometheusMetrics) -> None:
        self._metrics = metrics

    def describe(self) -> Iterator[Metric]:
        """The names, so that the registry can find duplicates."""
        for family in families.FAMILIES:
            yield from _metric(family).describe()

    def collect(self) -> Iterator[Metric]:
        """The current metrics."""
        return self._metrics.collect()


def metrics_app(registry: CollectorRegistry = REGISTRY) -> Callable[..., Any]:
    """An ASGI app that shows the metrics in `registry`, or those of all processes with ``PROMETHEUS_MULTIPROC_DIR``.

    Anybody who reaches the app can read the metrics, so mount it where only Prometheus gets.
    """
    shown = _shown(registry)
    return _read_in_a_thread(shown) if FOLDER in os.environ else make_asgi_app(shown)


def wsgi_metrics_app(registry: CollectorRegistry = REGISTRY) -> Callable[..., Any]:
    """`metrics_app` as a WSGI app."""
    return make_wsgi_app(_shown(registry))


def _shown(registry: CollectorRegistry) -> CollectorRegistry:
    if FOLDER not in os.environ:
        return registry
    of_all = CollectorRegistry()
    of_all.register(AllProcesses())
    return of_all


def _read_in_a_thread(registry: CollectorRegistry) -> Callable[..., Any]:
    """An ASGI app for a registry that reads files. On asyncio it does not block the event loop."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        found = CollectorRegistry()
        found.register(_Collected(await in_thread(lambda: [*registry.collect()])))
        await make_asgi_app(found)(scope, receive, send)

    return app


class _Collected:
    """Metrics that are collected already."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def describe(self) -> Iterable[Metric]:
        """No names: they are in the metrics."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """The metrics."""
        return self._metrics


def _metric(family: Family) -> Any:
    # What prometheus_client appends itself, "_total", is not part of a name here.
    name, labels = family.name.replace(".", "_"), family.labels
    if family.kind == "counter":
        return Counter(name, family.description, labels, registry=None)
    if family.kind == "gauge":
        return Gauge(name, family.description, labels, registry=None, multiprocess_mode="livesum")
    return Histogram(name, family.description, labels, unit="seconds", registry=None, buckets=family.bounds)


def _labelled(metric: Any, labels: Labels) -> Any:
    return metric.labels(*labels) if labels else metric


def _register(registry: CollectorRegistry, collector: _Collector) -> None:
    try:
        registry.register(collector)
    except ValueError as error:
        raise ValueError(
            "registry: it has a PrometheusMetrics already; give one PrometheusMetrics to all limiters"
        ) from error
