"""A health table under other rules: what was observed goes on to count, and nobody goes without it."""

from dataclasses import replace

from hypothesis import example, given
from hypothesis import strategies as st

from healthcheck.core.ejection import EjectionSettings
from healthcheck.core.health_table import Change, HealthTable
from healthcheck.core.probe_health import Thresholds
from healthcheck.core.verdict import Evidence, Health, Outcome, Verdict

NGINX = Thresholds(fails=3, passes=2)
PASSIVE = EjectionSettings(
    consecutive_failures=2, base_s=10.0, max_s=30.0, max_ratio=0.5, end_on_pass=True
)
PASS = Verdict(Outcome.PASS, "status 200")
REFUSED = Verdict(Outcome.FAIL, "connect refused")


def table_of(
    *targets: str,
    thresholds: Thresholds | None = NGINX,
    ejection: EjectionSettings | None = PASSIVE,
) -> HealthTable:
    table = HealthTable(thresholds=thresholds, ejection=ejection)
    for target in targets:
        table.add(target, 0.0)
        table.verdict(target, PASS, 0.0)
    return table


def fail(table: HealthTable, target: str, times: int, now: float) -> None:
    for _ in range(times):
        table.evidence(target, Evidence.FAILURE, "connection reset", now)


def told(changes: list[Change]) -> list[str]:
    return [f"{c.target} {c.kind} {c.old}>{c.new}: {c.reason}" for c in changes]


# ---- active checks -------------------------------------------------------------------------------


def test_checks_that_are_new_take_nobody_out_before_a_verdict_does() -> None:
    table = table_of("a", thresholds=None)
    assert table.reconfigure(thresholds=NGINX, ejection=PASSIVE, now=5.0) == []
    view = table.view("a")
    assert (view.health, view.pending) == (Health.HEALTHY, False)
    assert view.reason == "healthy until a check says otherwise"
    for now in (6.0, 7.0):
        assert table.verdict("a", REFUSED, now) == []
    assert told(table.verdict("a", REFUSED, 8.0)) == [
        "a health healthy>unhealthy: 3 of 3 probes failed: connect refused"
    ]


def test_the_first_pass_of_new_checks_is_told_as_what_it_is() -> None:
    table = table_of("a", thresholds=None)
    table.reconfigure(thresholds=NGINX, ejection=PASSIVE, now=5.0)
    table.verdict("a", PASS, 6.0)
    assert table.view("a").reason == "first probe passed: status 200"
    assert table.view("a").since == 0.0, "it was healthy all the time"


def test_what_was_only_assumed_is_not_saved_as_observed() -> None:
    table = table_of("a", thresholds=None)
    table.reconfigure(thresholds=NGINX, ejection=PASSIVE, now=5.0)
    assert "health" not in table.dump("a", 5.0)
    table.verdict("a", PASS, 6.0)
    assert "health" in table.dump("a", 6.0)


def test_checks_that_are_gone_hold_nobody_back() -> None:
    table = table_of("a", "b")
    table.add("new", 0.0)
    for now in (1.0, 2.0, 3.0):
        table.verdict("a", REFUSED, now)
    changes = table.reconfigure(thresholds=None, ejection=PASSIVE, now=4.0)
    assert told(changes) == [
        "a health unhealthy>healthy: no active checks configured",
        "new health unknown>healthy: no active checks configured",
    ]
    assert table.view("a").since == 4.0
    assert {table.view(target).health for target in ("a", "b", "new")} == {Health.HEALTHY}
    assert table.verdict("a", REFUSED, 5.0) == []


def test_a_target_that_comes_back_so_has_no_failures_held_against_it() -> None:
    table = table_of("a", "b")
    for now in (1.0, 2.0, 3.0):
        table.verdict("a", REFUSED, now)
    fail(table, "a", 1, 3.5)
    table.reconfigure(thresholds=None, ejection=PASSIVE, now=4.0)
    fail(table, "a", 1, 5.0)
    assert not table.view("a").ejected


def test_a_streak_counts_under_other_thresholds() -> None:
    table = table_of("a")
    table.verdict("a", REFUSED, 1.0)
    table.verdict("a", REFUSED, 2.0)
    table.reconfigure(thresholds=Thresholds(fails=4, passes=2), ejection=PASSIVE, now=3.0)
    assert table.view("a").streak == "2/4 fails"
    table.reconfigure(thresholds=Thresholds(fails=2, passes=2), ejection=PASSIVE, now=3.0)
    assert table.view("a").health is Health.HEALTHY, "rules alone take nobody out"
    assert table.view("a").streak == "1/2 fails"
    assert len(table.verdict("a", REFUSED, 4.0)) == 1


# ---- ejections -----------------------------------------------------------------------------------


def test_an_ejection_goes_on_and_obeys_the_longest_of_today() -> None:
    table = table_of("a", "b")
    fail(table, "a", 2, 1.0)
    assert table.view("a").ejected_until == 11.0
    longer = replace(PASSIVE, base_s=60.0, max_s=600.0)
    table.reconfigure(thresholds=NGINX, ejection=longer, now=2.0)
    assert table.view("a").ejected_until == 11.0
    table.reconfigure(thresholds=NGINX, ejection=replace(PASSIVE, base_s=1.0, max_s=3.0), now=2.0)
    assert table.view("a").ejected_until == 5.0
    assert told(table.tick(5.0)) == [
        "a ejection ejected>on_trial: on trial until an attempt succeeds: the ejection is over"
    ]


def test_without_passive_checks_nobody_is_out_or_on_trial() -> None:
    table = table_of("a", "b", "c", "d")
    for target in ("a", "b"):
        fail(table, target, 2, 1.0)
    table.tick(11.0)
    fail(table, "a", 1, 12.0)
    assert (table.view("a").ejected, table.view("b").on_trial) == (True, True)
    changes = table.reconfigure(thresholds=NGINX, ejection=None, now=13.0)
    assert told(changes) == [
        "a ejection ejected>serving: requests are no longer judged",
        "b ejection on_trial>serving: requests are no longer judged",
    ]
    assert table.next_event(13.0) is None
    assert table.tick(1000.0) == []


def test_failures_from_before_a_time_without_passive_checks_are_forgotten() -> None:
    table = table_of("a", "b")
    fail(table, "a", 1, 1.0)
    table.reconfigure(thresholds=NGINX, ejection=None, now=2.0)
    table.reconfigure(thresholds=NGINX, ejection=PASSIVE, now=3.0)
    fail(table, "a", 1, 4.0)
    assert not table.view("a").ejected


def test_a_smaller_share_puts_those_over_it_on_trial_at_the_next_tick() -> None:
    table = table_of("a", "b", "c", "d")
    for target in ("a", "b"):
        fail(table, target, 2, 1.0)
    table.reconfigure(thresholds=NGINX, ejection=replace(PASSIVE, max_ratio=0.25), now=2.0)
    assert table.next_event(2.0) == 2.0
    assert [change.target for change in table.tick(2.0)] == ["a"]


# ---- both ----------------------------------------------------------------------------------------

RULES = st.tuples(st.sampled_from([None, NGINX]), st.sampled_from([None, PASSIVE]))


@given(
    first=RULES,
    news=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("pfs"))),
    then=RULES,
    spare=st.booleans(),
)
@example((NGINX, PASSIVE), list(zip("aababa", "fffpff", strict=True)), (None, None), True)
def test_new_rules_alone_make_nobody_less_available(
    first: tuple[Thresholds | None, EjectionSettings | None],
    news: list[tuple[str, str]],
    then: tuple[Thresholds | None, EjectionSettings | None],
    spare: bool,
) -> None:
    table = HealthTable(thresholds=first[0], ejection=first[1])
    for target in "abc":
        table.add(target, 0.0)
        if spare:
            table.verdict(target, PASS, 0.0)
    for now, (target, kind) in enumerate(news, start=1):
        if kind == "f":
            fail(table, target, 1, float(now))
        else:
            table.verdict(target, PASS if kind == "p" else REFUSED, float(now))
    before = {target: table.view(target) for target in "abc"}
    end = len(news) + 1.0
    table.reconfigure(thresholds=then[0], ejection=then[1], now=end)
    for target in "abc":
        view = table.view(target)
        if before[target].health is Health.HEALTHY:
            assert view.health is Health.HEALTHY
        if not before[target].ejected:
            assert not view.ejected
        assert then[0] is not None or view.health is Health.HEALTHY
        assert then[1] is not None or not (view.ejected or view.on_trial)
    once = {target: table.view(target) for target in "abc"}
    assert table.reconfigure(thresholds=then[0], ejection=then[1], now=end) == []
    assert {target: table.view(target) for target in "abc"} == once


# ---- taking over ---------------------------------------------------------------------------------


def test_a_target_moves_with_all_that_is_known_of_it() -> None:
    table, other = table_of("a"), table_of("b", "c")
    other.verdict("b", REFUSED, 1.0)
    known = other.view("b")
    table.adopt(other.release("b"))
    assert table.view("b") == known
    assert other.targets() == ("c",)
    table.verdict("b", REFUSED, 2.0)
    assert told(table.verdict("b", REFUSED, 3.0)) == [
        "b health healthy>unhealthy: 3 of 3 probes failed: connect refused"
    ]


def test_an_ejection_moves_too_and_ends_on_time() -> None:
    table, other = table_of("a"), table_of("b", "c")
    fail(other, "b", 2, 1.0)
    table.adopt(other.release("b"))
    assert other.next_event(1.0) is None
    assert table.next_event(1.0) == 11.0
    assert len(table.tick(11.0)) == 1


def test_a_target_that_is_here_already_stays_as_it_is_known_here() -> None:
    table, other = table_of("a"), HealthTable(thresholds=NGINX, ejection=PASSIVE)
    other.add("a", 0.0)
    table.adopt(other.release("a"))
    assert table.targets() == ("a",)
    assert table.view("a").health is Health.HEALTHY
