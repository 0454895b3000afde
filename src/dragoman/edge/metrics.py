"""Metrics for Prometheus: what the edge saw, and the runtime's counters, read when they are asked for."""

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from dragoman.edge.routes import Mounted
from dragoman.runtime.counters import Counters

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Gauge = tuple[str, Callable[[], float]]
"""What a number says, and how to get it, asked at each scrape."""
BUCKETS_S = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0, 300.0)


class Metrics:
    def __init__(self, counters: Counters, *, gauges: Mapping[str, Gauge]) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "dragoman_http_requests", "Requests answered.", ("dialect", "route", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "dragoman_http_request_seconds",
            "Seconds from a request's head to the last byte of its answer.",
            ("dialect", "route"),
            buckets=BUCKETS_S,
            registry=self._registry,
        )
        self._registry.register(_Runtime(counters, gauges))
        # `labels` costs more than the counting itself, and there are few combinations. The key is an identity, which
        # stays its own only as long as the value holds the thing itself.
        self._by_label: dict[tuple[int, int], tuple[Counter, Histogram, Mounted | None]] = {}

    def answered(self, mounted: Mounted | None, status: int, seconds: float) -> None:
        key = (id(mounted), status)
        found = self._by_label.get(key)
        if found is None:
            dialect = mounted.dialect.name if mounted else ""
            route = f"{mounted.route.method} {mounted.route.path}" if mounted else ""
            found = (self._requests.labels(dialect, route, str(status)), self._seconds.labels(dialect, route), mounted)
            self._by_label[key] = found
        found[0].inc()
        found[1].observe(seconds)

    def text(self) -> bytes:
        return generate_latest(self._registry)


class _Runtime:
    """Reads the runtime's counters at scrape time, so that counting costs an addition."""

    def __init__(self, counters: Counters, gauges: Mapping[str, Gauge]) -> None:
        self._counters = counters
        self._gauges = gauges

    def collect(self) -> Iterable[Metric]:
        for name, value in self._counters.all().items():
            yield CounterMetricFamily(
                f"dragoman_{name}", f"{name.replace('_', ' ').capitalize()} since start.", value=value
            )
        outcomes = CounterMetricFamily(
            "dragoman_tool_outcomes", "Calls of tools in turns since start.", labels=("ran_by", "outcome")
        )
        for (ran_by, outcome), value in self._counters.tool_outcomes.items():
            outcomes.add_metric((ran_by, outcome), value)
        yield outcomes
        for name, (what, measure) in self._gauges.items():
            yield GaugeMetricFamily(f"dragoman_{name}", what, value=measure())
