"""The figures of an instance as Prometheus text, made from one plain snapshot.

Keeps no figure itself, so a backend that is removed leaves no series behind. Figures that a
snapshot lacks are left out. The text is written line by line, since prometheus_client takes 15 times
as long for it and would hold up the supervisor; a test holds the two to say the same.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NotRequired, TypedDict

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


class CertificateFigures(TypedDict):
    """A certificate of a listener; `expires_s` in seconds since 1970."""

    listener: str
    file: str
    expires_s: float


class Figures(TypedDict):
    """One moment of an instance."""

    pools: Mapping[str, PoolFigures]
    version: NotRequired[str]
    ready: NotRequired[bool]
    started_s: NotRequired[float]
    """Wall time of the start, in seconds since 1970."""
    connections: NotRequired[int]
    """Client connections open now."""
    turned_away: NotRequired[int]
    """Connections closed before HTTP began."""
    shed: NotRequired[int]
    """Requests refused for lack of room in the instance."""
    connection_crashes: NotRequired[int]
    """Client connections that have ended by a mistake of ours."""
    certificates: NotRequired[Sequence[CertificateFigures]]
    events: NotRequired[int]
    """Changes since the start."""


def exposition(figures: Figures) -> bytes:
    """The whole page; pool names and addresses are escaped as the format demands."""
    pools = {_escaped(name): pool for name, pool in figures["pools"].items()}
    lines = [*_of_instance(figures), *_of_pools(pools), *_of_backends(pools)]
    return ("\n".join(lines) + "\n").encode()


def _of_instance(figures: Figures) -> Iterator[str]:
    if "version" in figures:
        label = f'{{version="{_escaped(figures["version"])}"}}'
        yield from _family("build_info", "gauge", "Which version runs.", [f"{label} 1"])
    if "ready" in figures:
        ready = [f" {figures['ready']:d}"]
        yield from _family("ready", "gauge", "Whether /readyz says ok.", ready)
    if "started_s" in figures:
        started = [f" {figures['started_s']}"]
        text = "When the instance started, in seconds since 1970."
        yield from _family("start_time_seconds", "gauge", text, started)
    if "connections" in figures:
        connections = [f" {figures['connections']}"]
        yield from _family("connections", "gauge", "Client connections open now.", connections)
    if "turned_away" in figures:
        turned_away = [f" {figures['turned_away']}"]
        text = "Connections closed before HTTP began on them."
        yield from _family("connections_turned_away_total", "counter", text, turned_away)
    if "shed" in figures:
        text = "Requests refused because max_in_flight was reached."
        yield from _family("requests_shed_total", "counter", text, [f" {figures['shed']}"])
    if "connection_crashes" in figures:
        crashes = [f" {figures['connection_crashes']}"]
        text = "Client connections ended by a mistake of ours."
        yield from _family("connection_crashes_total", "counter", text, crashes)
    if "certificates" in figures:
        expiries = (
            f'{{listener="{_escaped(one["listener"])}",file="{_escaped(one["file"])}"}}'
            f" {one['expires_s']}"
            for one in figures["certificates"]
        )
        text = "When a listener's certificate expires, in seconds since 1970."
        yield from _family("certificate_expiry_time_seconds", "gauge", text, expiries)
    if "events" in figures:
        events = [f" {figures['events']}"]
        yield from _family("events_total", "counter", "Changes of state since the start.", events)


def _of_pools(pools: Mapping[str, PoolFigures]) -> Iterator[str]:
    def of_each(figure: Callable[[PoolFigures], object]) -> Iterator[str]:
        return (f'{{pool="{name}"}} {figure(pool)}' for name, pool in pools.items())

    text = "Whether health is ignored for lack of backends."
    yield from _family("pool_panic", "gauge", text, of_each(lambda pool: int(pool["panic"])))
    text = "Backends that may be picked."
    available = of_each(lambda pool: pool["available"])
    yield from _family("pool_available_backends", "gauge", text, available)
    count = of_each(lambda pool: len(pool["backends"]))
    yield from _family("pool_backends", "gauge", "Backends at all.", count)
    responses = (
        f'{{pool="{name}",class="{_escaped(status_class)}"}} {count}'
        for name, pool in pools.items()
        for status_class, count in pool.get("responses", {}).items()
    )
    text = "Answers to clients, ours included."
    yield from _family("responses_total", "counter", text, responses)
    retries = (
        f'{{pool="{name}"}} {pool["retries"]}' for name, pool in pools.items() if "retries" in pool
    )
    text = "Attempts after the first of their exchange."
    yield from _family("retries_total", "counter", text, retries)
    durations = (
        line
        for name, pool in pools.items()
        if "durations" in pool
        for line in _histogram(name, pool["durations"])
    )
    text = "From request to end of answer."
    yield from _family("exchange_duration_seconds", "histogram", text, durations)


def _of_backends(pools: Mapping[str, PoolFigures]) -> Iterator[str]:
    rows = [
        (f'{{pool="{name}",backend="{_escaped(row["address"])}"}}', row)
        for name, pool in pools.items()
        for row in pool["backends"]
    ]
    available = (f"{labels} {row['available']:d}" for labels, row in rows)
    yield from _family("backend_available", "gauge", "Whether it may be picked.", available)
    ejected = (f"{labels} {row['ejected']:d}" for labels, row in rows)
    text = "Whether live failures keep it out for a time."
    yield from _family("backend_ejected", "gauge", text, ejected)
    weight = (f"{labels} {row['weight']}" for labels, row in rows)
    yield from _family("backend_weight", "gauge", "Its weight.", weight)
    in_flight = (f"{labels} {row['in_flight']}" for labels, row in rows)
    yield from _family("backend_in_flight", "gauge", "Attempts outstanding now.", in_flight)
    requests = (f"{labels} {row['requests']}" for labels, row in rows)
    yield from _family("backend_requests_total", "counter", "Attempts made.", requests)
    failures = (f"{labels} {row['failures']}" for labels, row in rows)
    text = "Attempts that failed by its fault."
    yield from _family("backend_failures_total", "counter", text, failures)


def _family(name: str, kind: str, text: str, samples: Iterable[str]) -> Iterator[str]:
    """The lines of one metric; a sample is what follows its name."""
    yield f"# HELP balancer_{name} {text}"
    yield f"# TYPE balancer_{name} {kind}"
    for sample in samples:
        yield f"balancer_{name}{sample}"


def _histogram(pool: str, figures: DurationFigures) -> Iterator[str]:
    buckets = figures["buckets"]
    for le, count in buckets:
        bound = "+Inf" if le == float("inf") else le
        yield f'_bucket{{pool="{pool}",le="{bound}"}} {count}'
    yield f'_count{{pool="{pool}"}} {buckets[-1][1]}'
    yield f'_sum{{pool="{pool}"}} {figures["sum_s"]}'


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
