"""The figures of an instance as Prometheus text, made from one plain snapshot.

Keeps no figure itself, so a backend that is removed leaves no series behind. Figures that a
snapshot lacks are left out.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NotRequired, TypedDict

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class BackendFigures(TypedDict):
    """A backend's row of `balancer status --json`; more keys are ignored."""

    address: str
    weight: int
    available: bool
    ejected: bool
    in_flight: int
    requests: int
    failures: int
    health: NotRequired[str]


class DurationFigures(TypedDict):
    """How many exchanges took at most `le` seconds, for rising `le`, cumulated; last is +Inf."""

    buckets: Sequence[tuple[float, int]]
    sum_s: float


class PoolFigures(TypedDict):
    """A pool of the status, with what only the counters know."""

    panic: bool
    available: int
    backends: Sequence[BackendFigures]
    responses: NotRequired[Mapping[str, int]]
    """By class: "2xx", …; our own replies included."""
    retries: NotRequired[int]
    durations: NotRequired[DurationFigures]


class Figures(TypedDict):
    """One moment of an instance."""

    pools: Mapping[str, PoolFigures]
    version: NotRequired[str]
    ready: NotRequired[bool]
    started_s: NotRequired[float]
    """Wall time of the start, in seconds since 1970."""
    connections: NotRequired[int]
    """Client connections open now."""
    events: NotRequired[int]
    """Changes since the start."""


def exposition(figures: Figures) -> bytes:
    """The whole page; pool names and addresses are escaped as the format demands."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Once(figures))
    return generate_latest(registry)


class _Once(Collector):
    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        yield from _of_instance(self._figures)
        yield from _of_pools(self._figures["pools"])
        yield from _of_backends(self._figures["pools"])

    def describe(self) -> Iterator[Metric]:
        return iter(())  # asked at registration, to find name clashes: there are none


def _of_instance(figures: Figures) -> Iterator[Metric]:
    if "version" in figures:
        info = GaugeMetricFamily("balancer_build_info", "Which version runs.", labels=["version"])
        info.add_metric([figures["version"]], 1)
        yield info
    if "ready" in figures:
        text = "Whether /readyz says ok."
        yield GaugeMetricFamily("balancer_ready", text, value=float(figures["ready"]))
    if "started_s" in figures:
        text = "When the instance started, in seconds since 1970."
        yield GaugeMetricFamily("balancer_start_time_seconds", text, value=figures["started_s"])
    if "connections" in figures:
        text = "Client connections open now."
        yield GaugeMetricFamily("balancer_connections", text, value=figures["connections"])
    if "events" in figures:
        text = "Changes of state since the start."
        yield CounterMetricFamily("balancer_events", text, value=figures["events"])


def _of_pools(pools: Mapping[str, PoolFigures]) -> Iterator[Metric]:
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


def _of_backends(pools: Mapping[str, PoolFigures]) -> Iterator[Metric]:
    labels = ["pool", "backend"]
    available = GaugeMetricFamily(
        "balancer_backend_available", "Whether it may be picked.", labels=labels
    )
    ejected = GaugeMetricFamily(
        "balancer_backend_ejected", "Whether live failures keep it out for a time.", labels=labels
    )
    weight = GaugeMetricFamily("balancer_backend_weight", "Its weight.", labels=labels)
    in_flight = GaugeMetricFamily(
        "balancer_backend_in_flight", "Attempts outstanding now.", labels=labels
    )
    requests = CounterMetricFamily("balancer_backend_requests", "Attempts made.", labels=labels)
    failures = CounterMetricFamily(
        "balancer_backend_failures", "Attempts that failed by its fault.", labels=labels
    )
    for name, pool in pools.items():
        for row in pool["backends"]:
            who = [name, row["address"]]
            available.add_metric(who, float(row["available"]))
            ejected.add_metric(who, float(row["ejected"]))
            weight.add_metric(who, row["weight"])
            in_flight.add_metric(who, row["in_flight"])
            requests.add_metric(who, row["requests"])
            failures.add_metric(who, row["failures"])
    yield from (available, ejected, weight, in_flight, requests, failures)


def _histogram(durations: DurationFigures) -> tuple[list[tuple[str, float]], float]:
    buckets: list[tuple[str, float]] = [
        ("+Inf" if le == float("inf") else repr(le), count) for le, count in durations["buckets"]
    ]
    return buckets, durations["sum_s"]
