"""The figures page, read back by the parser of the people who define the format."""

from typing import cast

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from balancer.telemetry.metrics import BackendFigures, Figures, exposition
from tests.support.metrics_reference import reference_page

INF = float("inf")


def samples(figures: Figures) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    page = exposition(figures).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def backend(address: str) -> BackendFigures:
    return {
        "address": address,
        "weight": 2,
        "available": True,
        "ejected": False,
        "in_flight": 3,
        "requests": 1200,
        "failures": 7,
    }


def test_a_status_alone_is_enough() -> None:
    seen = samples(
        {"pools": {"web": {"panic": False, "available": 1, "backends": [backend("a:1")]}}}
    )
    of_backend = (("backend", "a:1"), ("pool", "web"))
    assert seen["balancer_backend_available", of_backend] == 1
    assert seen["balancer_backend_in_flight", of_backend] == 3
    assert seen["balancer_backend_requests_total", of_backend] == 1200
    assert seen["balancer_backend_failures_total", of_backend] == 7
    assert seen["balancer_pool_panic", (("pool", "web"),)] == 0
    assert seen["balancer_pool_available_backends", (("pool", "web"),)] == 1


def test_counters_of_the_instance_and_its_pools_are_told_when_known() -> None:
    seen = samples(
        {
            "version": "0.1.0",
            "ready": True,
            "started_s": 12.5,
            "connections": 4,
            "turned_away": 7,
            "shed": 5,
            "connection_crashes": 3,
            "events": 9,
            "pools": {
                "web": {
                    "panic": True,
                    "available": 0,
                    "backends": [],
                    "responses": {"2xx": 10, "5xx": 1},
                    "retries": 2,
                    "durations": {"buckets": [(0.1, 3), (1.0, 5), (INF, 6)], "sum_s": 4.5},
                }
            },
        }
    )
    web = ("pool", "web")
    assert seen["balancer_build_info", (("version", "0.1.0"),)] == 1
    assert seen["balancer_ready", ()] == 1
    assert seen["balancer_start_time_seconds", ()] == 12.5
    assert seen["balancer_connections", ()] == 4
    assert seen["balancer_connections_turned_away_total", ()] == 7
    assert seen["balancer_connection_crashes_total", ()] == 3
    assert seen["balancer_requests_shed_total", ()] == 5
    assert seen["balancer_events_total", ()] == 9
    assert seen["balancer_pool_panic", (web,)] == 1
    assert seen["balancer_responses_total", (("class", "5xx"), web)] == 1
    assert seen["balancer_retries_total", (web,)] == 2
    assert seen["balancer_exchange_duration_seconds_bucket", (("le", "1.0"), web)] == 5
    assert seen["balancer_exchange_duration_seconds_count", (web,)] == 6
    assert seen["balancer_exchange_duration_seconds_sum", (web,)] == 4.5


def test_a_removed_backend_leaves_no_series_behind() -> None:
    pool = {"panic": False, "available": 1}
    before = exposition({"pools": {"web": {**pool, "backends": [backend("a:1"), backend("b:1")]}}})  # type: ignore[typeddict-item]
    after = exposition({"pools": {"web": {**pool, "backends": [backend("a:1")]}}})  # type: ignore[typeddict-item]
    assert b"b:1" in before
    assert b"b:1" not in after


def test_names_cannot_break_out_of_their_quotes() -> None:
    name = 'a"b\\c\nd'
    seen = samples({"pools": {name: {"panic": False, "available": 0, "backends": []}}})
    assert ("balancer_pool_panic", (("pool", name),)) in seen


COUNTS = st.integers(0, 2**53)
NAMES = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from('"\\\n{},= '), max_size=9
)
POOLS = st.fixed_dictionaries(
    {
        "panic": st.booleans(),
        "available": COUNTS,
        "backends": st.lists(
            st.fixed_dictionaries(
                {
                    "address": NAMES,
                    "weight": COUNTS,
                    "available": st.booleans(),
                    "ejected": st.booleans(),
                    "in_flight": COUNTS,
                    "requests": COUNTS,
                    "failures": COUNTS,
                }
            ),
            max_size=3,
        ),
    },
    optional={
        "responses": st.dictionaries(NAMES, COUNTS, max_size=3),
        "retries": COUNTS,
        "durations": st.fixed_dictionaries(
            {
                "buckets": st.lists(st.tuples(st.floats(0, 1e5), COUNTS), unique_by=lambda b: b[0])
                .map(sorted)
                .map(lambda buckets: [*buckets, (INF, 2**53)]),
                "sum_s": st.floats(0, 1e12),
            }
        ),
    },
)
FIGURES = st.fixed_dictionaries(
    {"pools": st.dictionaries(NAMES, POOLS, max_size=3)},
    optional={
        "version": NAMES,
        "ready": st.booleans(),
        "started_s": st.floats(0, 1e12),
        "connections": COUNTS,
        "turned_away": COUNTS,
        "shed": COUNTS,
        "connection_crashes": COUNTS,
        "events": COUNTS,
    },
)


@given(FIGURES)
def test_the_page_says_what_the_library_would_say(drawn: dict[str, object]) -> None:
    """The same metrics in the same order, with the same type, words, labels and values."""
    figures = cast("Figures", drawn)
    assert families(exposition(figures).decode()) == families(reference_page(figures))


def families(page: str) -> list[tuple[object, ...]]:
    return [
        (
            family.name,
            family.type,
            family.documentation,
            [(sample.name, sample.labels, sample.value) for sample in family.samples],
        )
        for family in text_string_to_metric_families(page)
    ]
