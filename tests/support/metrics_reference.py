"""The figures page as prometheus_client writes it: what ours is held against."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from balancer.telemetry.metrics import DurationFigures, Figures, PoolFigures


def reference_page(figures: Figures) -> str:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Once(figures))
    return generate_latest(registry).decode()


class _Once(Collector):
    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        yield from _of_instance(self._figures)
        yield from _of_pools(dict(self._figures["pools"]))
        yield from _of_backends(dict(self._figures["pools"]))

    def describe(self) -> Iterator[Metric]:
        return iter(())  # asked at registration, to find name clashes: there are none


def _of_instance(figures: Figures) -> Iterator[Metric]:
    if "version" in figures:
        info = GaugeMetricFamily("balancer_build_info", "Which version runs.", labels=["version"])
        info.add_metric([figures["version"]], 1)
        yield info
    for name, key, text in (
        ("balancer_ready", "ready", "Whether /readyz says ok."),
        (
            "balancer_start_time_seconds",
            "started_s",
            "When the instance started, in seconds since 1970.",
        ),
        ("balancer_connections", "connections", "Client connections open now."),
    ):
        if key in figures:
            yield GaugeMetricFamily(name, text, value=float(figures[key]))  # type: ignore[literal-required]
    if "turned_away" in figures:
        text = "Connections closed before HTTP began on them."
        yield CounterMetricFamily(
            "balancer_connections_turned_away", text, value=figures["turned_away"]
        )
    if "shed" in figures:
        text = "Requests refused because max_in_flight was reached."
        yield CounterMetricFamily("balancer_requests_shed", text, value=figures["shed"])
    if "connection_crashes" in figures:
        text = "Client connections ended by a mistake of ours."
        crashes = figures["connection_crashes"]
        yield CounterMetricFamily("balancer_connection_crashes", text, value=crashes)
    if "events" in figures:
        text = "Changes of state since the start."
        yield CounterMetricFamily("balancer_events", text, value=figures["events"])


def _of_pools(pools: dict[str, PoolFigures]) -> Iterator[Metric]:
    panic = GaugeMetricFamily(
        "balancer_pool_panic", "Whether health is ignored for lack of backends.", labels=["pool"]
    )
    available = GaugeMetricFamily(
        "balancer_pool_available_backends", "Backends that may be picked.", labels=["pool"]
    )
    backends = GaugeMetricFamily("balancer_pool_backends", "Backends at all.", labels=["pool"])
    responses = CounterMetricFamily(
        "balancer_responses", "Answers to clients, ours included.", labels=["pool", "class"]
    )
    retries = CounterMetricFamily(
        "balancer_retries", "Attempts after the first of their exchange.", labels=["pool"]
    )
    durations = HistogramMetricFamily(
        "balancer_exchange_duration_seconds", "From request to end of answer.", labels=["pool"]
    )
    for name, pool in pools.items():
        panic.add_metric([name], float(pool["panic"]))
        available.add_metric([name], pool["available"])
        backends.add_metric([name], len(pool["backends"]))
        for status_class, count in pool.get("responses", {}).items():
            responses.add_metric([name, status_class], count)
        if "retries" in pool:
            retries.add_metric([name], pool["retries"])
        if "durations" in pool:
            durations.add_metric([name], *_histogram(pool["durations"]))
    yield from (panic, available, backends, responses, retries, durations)


def _of_backends(pools: dict[str, PoolFigures]) -> Iterator[Metric]:
    of_rows = {
        "available": (GaugeMetricFamily, "Whether it may be picked."),
        "ejected": (GaugeMetricFamily, "Whether live failures keep it out for a time."),
        "weight": (GaugeMetricFamily, "Its weight."),
        "in_flight": (GaugeMetricFamily, "Attempts outstanding now."),
        "requests": (CounterMetricFamily, "Attempts made."),
        "failures": (CounterMetricFamily, "Attempts that failed by its fault."),
    }
    for key, (kind, text) in of_rows.items():
        family = kind(f"balancer_backend_{key}", text, labels=["pool", "backend"])
        for name, pool in pools.items():
            for row in pool["backends"]:
                family.add_metric([name, row["address"]], float(row[key]))  # type: ignore[literal-required]
        yield family


def _histogram(figures: DurationFigures) -> tuple[list[tuple[str, float]], float]:
    buckets: list[tuple[str, float]] = [
        ("+Inf" if le == float("inf") else repr(le), count) for le, count in figures["buckets"]
    ]
    return buckets, figures["sum_s"]
