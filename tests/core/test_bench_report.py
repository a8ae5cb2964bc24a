"""What scripts/bench makes of its readings."""

import xml.etree.ElementTree as ET

import pytest
from bench_cases import PLANS
from bench_load import ERRORS, LoadFailed, Traffic, seen_from
from bench_measures import used_since, working_processes
from bench_picture import folded, picture
from bench_report import (
    Case,
    Column,
    Goal,
    Result,
    access_lines_remark,
    goal_line,
    judge,
    plain,
    report,
    table,
)
from hypothesis import given
from hypothesis import strategies as st

COLUMNS = (Column("cpu_us", "CPU µs", 1), Column("per_s", "requests/s"))
LINE = "bench: requests=900 bytes=1800 us=2000000 p50=1500 p99=9000 connect=0 read=2 write=0 status=0 timeout=1\n"


def result_of(goals: tuple[Goal, ...] = (), **cpu: list[float]) -> Result:
    result = Result(Case("case", "a <case>", COLUMNS, "cpu_us", goals=goals))
    for entrant, values in cpu.items():
        for value in values:
            result.add(entrant, {"cpu_us": value, "per_s": 1e6 / value})
    return result


# ---- medians, ratios, noise --------------------------------------------------------------------


def test_a_ratio_is_of_medians_so_that_one_bad_round_does_not_count() -> None:
    result = result_of(balancer=[40, 44, 900], nginx=[11, 10, 12])
    assert result.median("balancer", "cpu_us") == 44
    assert result.ratio("balancer") == 4
    assert result.ratio("nginx") == 1
    assert result.ratio("nginx", to="balancer") == 0.25


def test_what_was_not_measured_has_neither_median_nor_ratio() -> None:
    result = result_of(balancer=[40])
    assert result.median("nginx", "cpu_us") is None
    assert result.ratio("balancer") is None
    assert result.ratio("nginx") is None


def test_a_round_without_a_quantity_does_not_count_for_it() -> None:
    """A 64 MiB answer may take longer than a round, which then has no latency."""
    result = Result(Case("case", "", COLUMNS, "cpu_us"))
    result.add("nginx", {"cpu_us": 1})
    result.add("nginx", {"cpu_us": 1, "per_s": 7})
    assert result.median("nginx", "per_s") == 7


def test_noise_is_half_the_spread_and_needs_two_rounds() -> None:
    result = result_of(balancer=[90, 100, 130], nginx=[10])
    assert result.noise("balancer") == pytest.approx(0.2)
    assert result.noise("nginx") is None
    assert result.noise("haproxy") is None


@given(st.lists(st.floats(1, 1e6), min_size=1, max_size=9))
def test_a_median_lies_among_the_rounds(values: list[float]) -> None:
    found = result_of(balancer=values).median("balancer", "cpu_us")
    assert found is not None
    assert min(values) <= found <= max(values)


# ---- goals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("goal", "cpu", "line"),
    [
        (Goal(4, "nginx"), {"balancer": [40], "nginx": [10]}, "at most 4 × nginx; measured 4.00 ×: met"),
        (Goal(4, "nginx"), {"balancer": [41], "nginx": [10]}, "at most 4 × nginx; measured 4.10 ×: MISSED"),
        (Goal(50), {"balancer": [41]}, "at most 50 CPU µs; measured 41.0: met"),
        (Goal(40), {"balancer": [41]}, "at most 40 CPU µs; measured 41.0: MISSED"),
        (Goal(4, "nginx"), {"balancer": [41]}, "at most 4 × nginx; not measured"),
        (Goal(4, "nginx"), {"nginx": [10]}, "at most 4 × nginx; not measured"),
    ],
)  # fmt: skip
def test_a_goal_is_met_missed_or_not_measured(
    goal: Goal, cpu: dict[str, list[float]], line: str
) -> None:
    result = result_of((goal,), **cpu)
    (judged,) = judge(result)
    assert goal_line(result, judged) == f"goal: {line}"


@pytest.mark.parametrize("entrant", ["balancer", "nginx"])
def test_errors_on_either_side_spoil_a_goal(entrant: str) -> None:
    """A proxy that refuses is fast; that is no figure to be proud of, or to be measured by."""
    result = result_of((Goal(4, "nginx"),), balancer=[10], nginx=[10])
    result.add(entrant, {"cpu_us": 10, "per_s": 1}, {"status": 3})
    (judged,) = judge(result)
    assert judged.met is None
    assert "with errors, so not judged" in goal_line(result, judged)


def test_errors_of_somebody_else_spoil_nothing() -> None:
    result = result_of((Goal(4, "nginx"),), balancer=[10], nginx=[10])
    result.add("pyproxy", {"cpu_us": 10, "per_s": 1}, {"read": 3})
    assert [judged.met for judged in judge(result)] == [True]


def test_every_goal_speaks_of_an_entrant_and_a_column_of_its_case() -> None:
    for plan in PLANS:
        labels = {entrant.label for entrant in plan.entrants}
        keys = {column.key for column in plan.case.columns}
        assert plan.case.compared in keys
        assert plan.case.reference in labels
        for goal in plan.case.goals:
            assert {goal.subject, goal.of or goal.subject} <= labels
            assert (goal.column or plan.case.compared) in keys


# ---- what is printed ---------------------------------------------------------------------------


def test_the_table_is_markdown_that_is_readable_as_it_stands() -> None:
    assert table(result_of(balancer=[40, 50], nginx=[10])) == [
        "|          | CPU µs | requests/s | × nginx | noise ± |",
        "|----------|-------:|-----------:|--------:|--------:|",
        "| balancer |   45.0 |     22,500 |    4.50 |     11% |",
        "| nginx    |   10.0 |    100,000 |    1.00 |       – |",
    ]


def test_the_report_names_errors_and_whoever_is_missing() -> None:
    result = result_of(balancer=[40])
    result.add("balancer", {"cpu_us": 40, "per_s": 1}, {"read": 2})
    result.add("balancer", {"cpu_us": 40, "per_s": 1}, {"read": 3, "timeout": 1})
    result.left_out["nginx"] = "nginx is not installed"
    lines = report(result)
    assert any(line.startswith("| balancer (!)") for line in lines)
    assert "- (!) balancer: clients saw errors: 5 read, 1 timeout" in lines
    assert "- without nginx: nginx is not installed" in lines


def test_the_plain_form_holds_every_round() -> None:
    (kept,) = plain([result_of(nginx=[10, 20])])
    assert kept["readings"] == {
        "nginx": [{"cpu_us": 10, "per_s": 1e5}, {"cpu_us": 20, "per_s": 5e4}]
    }


def test_the_picture_is_xml_with_a_bar_an_entrant_as_long_as_its_figure() -> None:
    drawing = ET.fromstring(picture([result_of(balancer=[40], nginx=[10])], "R&D"))
    bars = drawing.findall("{*}rect[@rx]")
    texts = [words.text for words in drawing.findall("{*}text")]
    assert float(bars[0].get("width", 0)) == pytest.approx(4 * float(bars[1].get("width", 0)), 0.01)
    assert "40.0 · 4.00 × nginx" in texts
    assert {"balancer", "nginx", "a <case>", "R&D"} <= set(texts)


def test_a_case_without_readings_is_not_drawn() -> None:
    assert "case" not in picture([result_of()], "")


@given(st.text(alphabet="ab ", max_size=60), st.integers(1, 20))
def test_folding_keeps_every_word(words: str, letters: int) -> None:
    lines = folded(words, letters)
    assert " ".join(lines).split() == words.split()
    assert all(len(line) <= letters or " " not in line for line in lines)


@pytest.mark.parametrize(
    ("lines", "requests", "remark"),
    [
        (100_000, 100_000, None),
        (98_000, 100_000, None),
        (0, 30, None),  # all of them may be in a buffer still
        (3, 100_000, "wrote 3 access lines for 100,000 requests"),
    ],
)
def test_whoever_writes_no_access_lines_is_told_of(
    lines: int, requests: float, remark: str | None
) -> None:
    assert access_lines_remark(lines, requests) == remark


def test_a_remark_stands_below_the_table() -> None:
    result = result_of(balancer=[40])
    result.remarks["balancer"] = "wrote nothing"
    assert "- balancer: wrote nothing" in report(result)


def test_a_figure_above_a_thousand_needs_no_decimals() -> None:
    assert [COLUMNS[0].text(value) for value in (None, 0.04, 999.94, 1234.5)] == [
        "–", "0.0", "999.9", "1,234",
    ]  # fmt: skip


# ---- what is read ------------------------------------------------------------------------------


def test_our_line_is_found_in_what_wrk_prints() -> None:
    seen = seen_from(f"Running 2s test\n{LINE}")
    assert (seen.requests, seen.bytes_read, seen.seconds) == (900, 1800, 2.0)
    assert (seen.p50_ms, seen.p99_ms) == (1.5, 9.0)
    assert seen.errors == {"read": 2, "timeout": 1}


def test_without_our_line_there_is_no_figure() -> None:
    with pytest.raises(LoadFailed, match="unable to connect"):
        seen_from("unable to connect to 127.0.0.1:1\n")


@pytest.mark.parametrize("upload_bytes", [0, 512])
def test_the_script_for_wrk_prints_what_we_read(upload_bytes: int) -> None:
    script = Traffic(upload_bytes=upload_bytes).script()
    assert ("POST" in script) == bool(upload_bytes)
    assert (f'string.rep("x", {upload_bytes})' in script) == bool(upload_bytes)
    assert all(f"{name}=%d" in script for name in ("requests", "bytes", "us", "p50", *ERRORS))


# ---- whose CPU it is ---------------------------------------------------------------------------


def test_workers_are_what_is_below_the_process_that_was_started() -> None:
    assert working_processes({10: 0.5, 11: 2.0, 12: 3.0}) == [2.0, 3.0]
    assert working_processes({10: 0.5}) == [0.5]


def test_cpu_is_counted_from_the_start_of_the_round_or_of_the_process() -> None:
    used = used_since({10: 1.0, 11: 2.0, 12: 9.0}, {10: 1.5, 11: 4.0, 13: 0.25})
    assert used == {10: 0.5, 11: 2.0, 13: 0.25}
