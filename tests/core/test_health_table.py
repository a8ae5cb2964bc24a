"""The pool's view of its targets: what is said, what is allowed, what survives."""

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from healthcheck.core.ejection import EjectionSettings, most_ejected
from healthcheck.core.health_table import Change, HealthTable, TargetView
from healthcheck.core.probe_health import Thresholds
from healthcheck.core.schedule import Pace
from healthcheck.core.verdict import Evidence, Health, Outcome, Verdict
from healthcheck.core.wording import ordinal, seconds

NGINX = Thresholds(fails=3, passes=2)
PASSIVE = EjectionSettings(
    consecutive_failures=2, base_s=10.0, max_s=30.0, max_ratio=0.5, end_on_pass=True
)
PASS = Verdict(Outcome.PASS, "status 200")
REFUSED = Verdict(Outcome.FAIL, "connect refused")
VOID = Verdict(Outcome.VOID, "our own fault: out of file descriptors")


def checked(*targets: str, ejection: EjectionSettings | None = PASSIVE) -> HealthTable:
    """A table with active checks in which every target has passed."""
    table = HealthTable(thresholds=NGINX, ejection=ejection)
    for target in targets:
        table.add(target, 0.0)
        table.verdict(target, PASS, 0.0)
    return table


def unchecked(*targets: str, ejection: EjectionSettings | None = PASSIVE) -> HealthTable:
    table = HealthTable(thresholds=None, ejection=ejection)
    for target in targets:
        table.add(target, 0.0)
    return table


def fail(table: HealthTable, target: str, times: int, now: float) -> list[Change]:
    return [
        change
        for _ in range(times)
        for change in table.evidence(target, Evidence.FAILURE, "connection reset", now)
    ]


def told(changes: list[Change]) -> list[str]:
    return [f"{c.target} {c.kind} {c.old}>{c.new}: {c.reason}" for c in changes]


# ---- probes --------------------------------------------------------------------------------------


def test_a_new_target_waits_for_its_first_verdict() -> None:
    table = HealthTable(thresholds=NGINX, ejection=None)
    table.add("a", 5.0)
    assert table.view("a") == TargetView(
        health=Health.UNKNOWN,
        pending=True,
        ejected=False,
        on_trial=False,
        ejected_until=None,
        reason="no verdict yet",
        since=5.0,
        streak="",
        restored=False,
    )
    assert table.verdict("a", VOID, 6.0) == []
    assert table.view("a").pending
    assert table.view("a").reason == f"no verdict yet; last probe void: {VOID.reason}"
    assert told(table.verdict("a", PASS, 7.0)) == [
        "a health unknown>healthy: first probe passed: status 200"
    ]
    assert (table.view("a").pending, table.view("a").since) == (False, 7.0)


def test_without_active_checks_a_target_is_healthy_at_once() -> None:
    table = unchecked("a")
    assert table.view("a").health is Health.HEALTHY
    assert not table.view("a").pending
    assert table.view("a").reason == "no active checks configured"
    assert table.verdict("a", REFUSED, 1.0) == [], "nobody asked for it"
    assert table.pace("a") is Pace.STEADY


def test_failures_between_passes_never_take_a_target_out() -> None:
    table = checked("a")
    for number in range(100):
        verdict = PASS if number % 3 == 2 else REFUSED
        assert table.verdict("a", verdict, float(number)) == []
    assert table.view("a").health is Health.HEALTHY


@pytest.mark.parametrize("status", [302, 418, 429, 500])
def test_every_odd_status_obeys_the_threshold(status: int) -> None:
    table = checked("a", "b")
    odd = Verdict(Outcome.FAIL, f"status {status}, expected 200-299")
    assert table.verdict("a", odd, 1.0) == []
    assert table.view("a").streak == "1/3 fails"
    assert (
        table.view("a").reason
        == f"first probe passed: status 200; now 1 of 3 probes failed: {odd.reason}"
    )
    assert table.verdict("a", odd, 2.0) == []
    assert told(table.verdict("a", odd, 3.0)) == [
        f"a health healthy>unhealthy: 3 of 3 probes failed: {odd.reason}"
    ]


def test_a_reason_says_why_and_how_it_looks_now() -> None:
    table = checked("a")
    for _ in range(3):
        table.verdict("a", REFUSED, 1.0)
    assert table.view("a").reason == "3 of 3 probes failed: connect refused"
    table.verdict("a", Verdict(Outcome.FAIL, "no answer in 2 s"), 2.0)
    assert table.view("a").reason == "3 of 3 probes failed: connect refused; now: no answer in 2 s"
    table.verdict("a", PASS, 3.0)
    assert table.view("a").reason == (
        "3 of 3 probes failed: connect refused; now 1 of 2 probes passed: status 200"
    )
    assert told(table.verdict("a", PASS, 4.0)) == [
        "a health unhealthy>healthy: 2 of 2 probes passed: status 200"
    ]


def test_the_last_healthy_target_may_be_found_unhealthy() -> None:
    table = checked("a")
    assert [table.verdict("a", REFUSED, 1.0) for _ in range(3)][-1][0].new == "unhealthy"


def test_the_pace_is_quick_until_sure() -> None:
    table = HealthTable(thresholds=NGINX, ejection=None)
    table.add("a", 0.0)
    paces = []
    for verdict in (None, PASS, REFUSED, REFUSED, REFUSED, PASS, PASS):
        if verdict:
            table.verdict("a", verdict, 0.0)
        paces.append(table.pace("a").value[0])
    assert "".join(paces) == "tstts" + "ts"
    assert table.pace("never here") is Pace.STEADY


# ---- ejection ------------------------------------------------------------------------------------


def test_an_ejection_tells_its_length_and_cause_and_ends_in_a_trial() -> None:
    table = unchecked("a", "b")
    assert told(fail(table, "a", 2, 1.0)) == [
        "a ejection serving>ejected: ejected for 10 s: 2 failures in a row, last: connection reset"
    ]
    view = table.view("a")
    assert (view.ejected, view.ejected_until, view.health) == (True, 11.0, Health.HEALTHY)
    assert view.reason == "ejected for 10 s: 2 failures in a row, last: connection reset"
    assert table.next_event(1.0) == 11.0
    assert table.tick(10.9) == []
    assert table.next_event(12.0) == 12.0
    assert told(table.tick(11.0)) == [
        "a ejection ejected>on_trial: on trial until an attempt succeeds: the ejection is over"
    ]
    assert (table.view("a").ejected, table.view("a").on_trial) == (False, True)
    assert table.next_event(11.0) is None
    assert told(fail(table, "a", 1, 12.0)) == [
        "a ejection on_trial>ejected: "
        "ejected for 20 s (2nd time in a row): failed on trial: connection reset"
    ]
    table.tick(32.0)
    assert told(fail(table, "a", 1, 33.0)) == [
        "a ejection on_trial>ejected: "
        "ejected for 30 s (the longest): failed on trial: connection reset"
    ]
    table.tick(63.0)
    assert told(table.evidence("a", Evidence.SUCCESS, "", 64.0)) == [
        "a ejection on_trial>serving: the trial succeeded"
    ]
    assert table.view("a").reason == "no active checks configured"


def test_a_client_that_left_says_nothing() -> None:
    table = unchecked("a", "b")
    for _ in range(100):
        assert table.evidence("a", Evidence.IGNORED, "the client left", 1.0) == []
    fail(table, "a", 2, 1.0)
    table.tick(11.0)
    table.evidence("a", Evidence.IGNORED, "the client left", 12.0)
    assert table.view("a").on_trial


def test_late_news_from_before_an_ejection_changes_nothing() -> None:
    table = unchecked("a", "b")
    fail(table, "a", 2, 1.0)
    until = table.view("a").ejected_until
    assert fail(table, "a", 50, 2.0) == []
    assert table.view("a").ejected_until == until
    table.tick(11.0)
    assert table.evidence("a", Evidence.FAILURE, "timeout", 12.0, began=0.5) == []
    assert table.evidence("a", Evidence.SUCCESS, "", 12.0, began=0.5) == []
    assert table.view("a").on_trial
    assert table.evidence("a", Evidence.FAILURE, "timeout", 12.5, began=11.5) != []


def test_the_share_is_kept_and_a_refusal_is_told_once() -> None:
    table = unchecked("a", "b", "c", "d")
    fail(table, "a", 2, 1.0)
    fail(table, "b", 2, 2.0)
    assert told(fail(table, "c", 50, 3.0)) == [
        "c ejection serving>serving: not ejected (2 of 4 are out, no more may be), "
        "though 2 failures in a row, last: connection reset"
    ]
    assert table.view("c").reason.startswith("not ejected (2 of 4 are out")
    table.tick(11.0)
    assert [c.new for c in fail(table, "c", 1, 12.0)] == ["ejected"], "now there is room"


def test_a_success_ends_a_refusal() -> None:
    table = unchecked("a", "b")
    fail(table, "a", 2, 1.0)
    assert len(fail(table, "b", 5, 2.0)) == 1
    table.evidence("b", Evidence.SUCCESS, "", 3.0)
    assert table.view("b").reason == "no active checks configured"
    assert len(fail(table, "b", 5, 4.0)) == 1


def test_the_last_one_that_works_stays() -> None:
    table = checked("a", "b", "c")
    for _ in range(3):
        table.verdict("b", REFUSED, 1.0)
    table.set_serving("c", False)
    assert told(fail(table, "a", 5, 2.0)) == [
        "a ejection serving>serving: not ejected (the last one that works), "
        "though 2 failures in a row, last: connection reset"
    ]


def test_the_last_one_that_works_is_not_even_kept_on_trial() -> None:
    table = unchecked("a", "b")
    fail(table, "a", 2, 1.0)
    table.tick(11.0)
    fail(table, "b", 2, 11.0)
    assert told(fail(table, "a", 1, 12.0)) == [
        "a ejection on_trial>serving: "
        "not ejected (the last one that works), though it failed on trial: connection reset"
    ]
    assert not table.view("a").on_trial
    assert table.view("a").reason.startswith("not ejected (the last one that works)")


def test_a_full_share_leaves_one_that_fails_on_trial_there() -> None:
    table = unchecked("a", "b", "c", "d")
    fail(table, "a", 2, 0.0)
    table.tick(10.0)
    fail(table, "b", 2, 10.0)
    fail(table, "c", 2, 10.0)
    changes = fail(table, "a", 3, 11.0)
    assert [(c.old, c.new) for c in changes] == [("on_trial", "on_trial")]
    assert table.view("a").on_trial


def test_who_takes_no_traffic_anyway_is_not_ejected() -> None:
    table = checked("a", "b", "c")
    table.set_serving("a", False)
    for _ in range(3):
        table.verdict("b", REFUSED, 1.0)
    assert fail(table, "a", 9, 2.0) == fail(table, "b", 9, 2.0) == []
    table.set_serving("a", True)
    table.verdict("b", PASS, 3.0)
    table.verdict("b", PASS, 3.0)
    assert fail(table, "a", 1, 4.0) == fail(table, "b", 1, 4.0) == [], "they start afresh"
    assert [c.new for c in fail(table, "a", 1, 5.0)] == ["ejected"]


def test_a_share_that_shrinks_lets_one_return_early() -> None:
    table = unchecked("a", "b", "c", "d")
    fail(table, "a", 2, 1.0)
    fail(table, "b", 2, 2.0)
    table.remove("d")
    assert table.next_event(3.0) == 3.0
    assert told(table.tick(3.0)) == [
        "a ejection ejected>on_trial: on trial until an attempt succeeds: too many would be out"
    ]
    assert table.next_event(3.0) == 12.0


def test_a_pass_ends_an_ejection_if_its_probe_can_know_of_it() -> None:
    table = checked("a", "b")
    fail(table, "a", 2, 5.0)
    assert table.verdict("a", replace(PASS, began=4.9), 5.1) == []
    assert table.view("a").ejected
    assert told(table.verdict("a", replace(PASS, began=6.0), 6.1)) == [
        "a ejection ejected>on_trial: on trial until an attempt succeeds: a probe passed"
    ]


def test_a_pass_ends_no_ejection_where_the_operator_says_so() -> None:
    table = checked("a", "b", ejection=replace(PASSIVE, end_on_pass=False))
    fail(table, "a", 2, 5.0)
    assert table.verdict("a", PASS, 6.0) == []
    assert table.view("a").ejected


def test_an_unhealthy_target_needs_its_passes_before_one_ends_its_ejection() -> None:
    table = checked("a", "b")
    fail(table, "a", 2, 5.0)
    for _ in range(3):
        table.verdict("a", REFUSED, 6.0)
    assert table.view("a").reason == (
        "3 of 3 probes failed: connect refused; "
        "ejected for 10 s: 2 failures in a row, last: connection reset"
    )
    assert table.verdict("a", PASS, 7.0) == []
    assert [(c.kind, c.new) for c in table.verdict("a", PASS, 8.0)] == [
        ("health", "healthy"),
        ("ejection", "on_trial"),
    ]


def test_without_passive_tracking_nothing_is_ejected() -> None:
    table = checked("a", "b", ejection=None)
    assert fail(table, "a", 99, 1.0) == []
    assert table.next_event(1.0) is None
    assert table.tick(2.0) == []
    assert table.verdict("a", PASS, 3.0) == []
    assert "ejection" not in table.dump("a", 4.0)


# ---- who is here ---------------------------------------------------------------------------------


def test_news_of_a_target_that_is_gone_changes_nothing() -> None:
    table = checked("a", "b")
    fail(table, "a", 2, 1.0)
    table.remove("a")
    table.remove("a")
    assert table.verdict("a", PASS, 2.0) == fail(table, "a", 9, 2.0) == table.tick(99.0) == []
    assert table.targets() == ("b",)


def test_adding_what_is_here_changes_nothing() -> None:
    table = checked("a")
    before = table.view("a")
    table.add("a", 9.0)
    assert table.view("a") == before


def test_state_goes_by_name_and_not_by_order() -> None:
    table = checked("a", "b", "c")
    for _ in range(3):
        table.verdict("b", REFUSED, 1.0)
    saved = {target: table.dump(target, 2.0) for target in table.targets()}
    restarted = HealthTable(thresholds=NGINX, ejection=PASSIVE)
    for target in ("c", "b", "new", "a"):
        restarted.add(target, 0.0, saved.get(target))
    states = {target: restarted.view(target).health.value for target in restarted.targets()}
    assert states == {"c": "healthy", "b": "unhealthy", "new": "unknown", "a": "healthy"}


# ---- what survives -------------------------------------------------------------------------------


def restart(table: HealthTable, target: str, now: float, then: float) -> HealthTable:
    """Another table in another process, with another clock."""
    restarted = HealthTable(thresholds=NGINX, ejection=PASSIVE)
    restarted.add("other", then)
    restarted.verdict("other", PASS, then)
    restarted.add(target, then, json.loads(json.dumps(table.dump(target, now))))
    return restarted


def test_restored_health_says_so_until_the_first_own_verdict() -> None:
    table = checked("a", "b")
    for now in (100.0, 101.0, 102.0):
        table.verdict("a", REFUSED, now)
    table.verdict("a", PASS, 103.0)
    restarted = restart(table, "a", now=110.0, then=1000.0)
    view = restarted.view("a")
    assert (view.health, view.restored, view.streak) == (Health.UNHEALTHY, True, "")
    assert view.reason == "restored: 3 of 3 probes failed: connect refused"
    assert view.since == 992.0
    assert not view.pending
    restarted.verdict("a", VOID, 1001.0)
    assert restarted.view("a").restored
    assert restarted.verdict("a", PASS, 1002.0) == []
    assert not restarted.view("a").restored
    assert [c.new for c in restarted.verdict("a", PASS, 1003.0)] == ["healthy"]


def test_what_failed_before_a_restart_is_not_in_a_row_with_what_fails_after() -> None:
    """Two failures, a restart, any number of successes and one failure made "3 in a row"."""
    table = checked("a", "b")
    fail(table, "a", 1, 100.0)
    table.verdict("a", REFUSED, 100.0)
    table.verdict("a", REFUSED, 101.0)
    restarted = restart(table, "a", now=110.0, then=1000.0)
    assert restarted.verdict("a", REFUSED, 1001.0) == []
    fail(restarted, "a", 1, 1002.0)
    assert not restarted.view("a").ejected


def test_evidence_from_before_a_target_was_known_says_nothing_about_it() -> None:
    """A maintenance forgets what was known; an attempt from before it must not count after."""
    table = checked("a", "b")
    table.remove("a")
    table.add("a", 50.0)
    table.verdict("a", PASS, 51.0)
    for _ in range(10):
        assert table.evidence("a", Evidence.FAILURE, "reset", 60.0, began=49.0) == []
    assert not table.view("a").ejected


def test_a_restored_ejection_goes_on_with_its_back_off() -> None:
    table = checked("a", "b")
    fail(table, "a", 2, 100.0)
    table.tick(110.0)
    fail(table, "a", 1, 111.0)
    restarted = restart(table, "a", now=121.0, then=1000.0)
    view = restarted.view("a")
    assert (view.ejected, view.ejected_until, view.restored) == (True, 1010.0, True)
    assert view.reason == (
        "restored: ejected for 20 s (2nd time in a row): failed on trial: connection reset"
    )
    restarted.tick(1010.0)
    assert "30 s" in fail(restarted, "a", 1, 1011.0)[0].reason
    restarted.verdict("a", PASS, 1012.0)
    assert not restarted.view("a").restored


def test_a_restored_ejection_that_is_overdue_ends_at_the_next_tick() -> None:
    table = checked("a", "b")
    fail(table, "a", 2, 100.0)
    restarted = restart(table, "a", now=500.0, then=7.0)
    assert restarted.next_event(7.0) == 7.0
    assert [c.new for c in restarted.tick(7.0)] == ["on_trial"]


def test_what_was_never_probed_is_not_restored_as_healthy() -> None:
    """The pool had no active checks, and now has."""
    table = unchecked("a", "b")
    assert restart(table, "a", 1.0, 1.0).view("a").pending


def test_what_survives_means_nothing_where_it_is_switched_off() -> None:
    table = checked("a", "b")
    fail(table, "a", 2, 1.0)
    for _ in range(3):
        table.verdict("a", REFUSED, 1.0)
    bare = HealthTable(thresholds=None, ejection=None)
    bare.add("a", 0.0, table.dump("a", 2.0))
    assert bare.view("a").health is Health.HEALTHY
    assert not bare.view("a").ejected
    assert bare.dump("a", 3.0) == {}


HEALTH = {"state": "unhealthy", "streak": 1, "cause": "x", "age_s": 1.5}
EJECTION = {
    "standing": "ejected",
    "failures": 0,
    "times": 2,
    "age_s": 1.5,
    "left_s": 5,
    "ejected_age_s": 1.5,
    "cause": "x",
}


@pytest.mark.parametrize(
    "damage",
    [
        {"health": None, "ejection": "no"},
        {"health": HEALTH | {"state": "unknown"}},
        {"health": HEALTH | {"state": ["healthy"]}},
        {"health": HEALTH | {"cause": None}},
        {"health": HEALTH | {"age_s": math.nan}},
        {"health": HEALTH | {"age_s": "1"}},
        {"health": HEALTH | {"age_s": 10**400}},
        {"ejection": EJECTION | {"times": 10**400}},
        {"ejection": EJECTION | {"standing": "away"}},
        {"ejection": EJECTION | {"cause": 7}},
        {"ejection": EJECTION | {"left_s": None}},
        {"ejection": EJECTION | {"left_s": -1}},
        {"ejection": EJECTION | {"times": 1.5}},
        {"ejection": EJECTION | {"age_s": math.inf}},
        {"ejection": EJECTION | {"standing": "serving"}},
    ],
)
def test_damaged_state_is_a_new_target(damage: dict[str, object]) -> None:
    table = HealthTable(thresholds=NGINX, ejection=PASSIVE)
    table.add("a", 0.0, damage)
    assert table.view("a").pending
    assert not table.view("a").ejected
    assert not table.view("a").restored


def test_a_restored_ejection_obeys_the_longest_of_today() -> None:
    table = HealthTable(thresholds=None, ejection=PASSIVE)
    table.add("a", 0.0, {"ejection": EJECTION | {"left_s": 9999}})
    assert table.view("a").ejected_until == 30.0


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


@given(
    st.dictionaries(st.sampled_from(sorted(HEALTH)), json_like),
    st.dictionaries(st.sampled_from(sorted(EJECTION)), json_like),
)
def test_no_saved_state_crashes_the_table(
    health: dict[str, object], ejection: dict[str, object]
) -> None:
    table = HealthTable(thresholds=NGINX, ejection=PASSIVE)
    table.add("a", 0.0, {"health": HEALTH | health, "ejection": EJECTION | ejection})
    table.tick(1.0)
    fail(table, "a", 3, 2.0)
    table.verdict("a", PASS, 3.0)
    json.dumps(table.dump("a", 4.0), allow_nan=False)


# ---- words ---------------------------------------------------------------------------------------


def test_numbers_read_as_a_person_writes_them() -> None:
    assert [seconds(s) for s in (2.0, 0.25, 0.2, 300.0, 86400.0, 1 / 3)] == [
        "2 s",
        "0.25 s",
        "0.2 s",
        "300 s",
        "86400 s",
        "0.333 s",
    ]
    assert [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 22, 101, 111)] == (
        ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "22nd", "101st", "111th"]
    )


def test_a_single_failure_reads_as_one() -> None:
    table = unchecked("a", "b", ejection=replace(PASSIVE, consecutive_failures=1))
    assert "1 failure in a row" in fail(table, "a", 1, 1.0)[0].reason


# ---- everything at once --------------------------------------------------------------------------

TARGETS = st.sampled_from("abcde")


class Pool(RuleBasedStateMachine):
    """Whatever happens, in whatever order: the share is kept and the last one that works stays."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.passive = replace(PASSIVE, max_ratio=0.6, consecutive_failures=1)
        self.table = HealthTable(thresholds=Thresholds(fails=2, passes=2), ejection=self.passive)
        self.serving: dict[str, bool] = {}
        self.saved: dict[str, dict[str, object]] = {}

    def working(self) -> set[str]:
        return {
            target
            for target, serving in self.serving.items()
            if serving
            and self.table.view(target).health is Health.HEALTHY
            and not self.table.view(target).ejected
        }

    def out(self) -> int:
        return sum(s and self.table.view(t).ejected for t, s in self.serving.items())

    @rule(who=TARGETS, restored=st.booleans())
    def add(self, who: str, restored: bool) -> None:
        self.table.add(who, self.now, self.saved.get(who) if restored else None)
        self.serving.setdefault(who, True)

    @rule(who=TARGETS)
    def remove(self, who: str) -> None:
        if who in self.serving:
            self.saved[who] = json.loads(json.dumps(self.table.dump(who, self.now)))
        self.table.remove(who)
        self.serving.pop(who, None)

    @precondition(lambda self: self.serving)
    @rule(data=st.data(), serving=st.booleans())
    def operator(self, data: st.DataObject, serving: bool) -> None:
        target = data.draw(st.sampled_from(sorted(self.serving)))
        self.table.set_serving(target, serving)
        self.serving[target] = serving

    @rule(who=TARGETS, outcome=st.sampled_from(Outcome), age=st.none() | st.floats(0, 20))
    def probed(self, who: str, outcome: Outcome, age: float | None) -> None:
        began = None if age is None else self.now - age
        before = self.table.view(who) if who in self.serving else None
        changes = self.table.verdict(who, Verdict(outcome, "a reason", began), self.now)
        if outcome is not Outcome.PASS:
            assert all(change.kind == "health" for change in changes)
        self.agrees(who, before, changes)

    @rule(
        who=TARGETS,
        evidence=st.sampled_from([Evidence.FAILURE, Evidence.FAILURE, *Evidence]),
        age=st.none() | st.floats(0, 20),
    )
    def attempted(self, who: str, evidence: Evidence, age: float | None) -> None:
        began = None if age is None else self.now - age
        before = self.table.view(who) if who in self.serving else None
        working, out = self.working(), self.out()
        changes = self.table.evidence(who, evidence, "a reason", self.now, began)
        self.agrees(who, before, changes)
        if any(change.new == "ejected" for change in changes):
            assert working - {who}, "the last one that works stays"
            serving = sum(self.serving.values())
            assert out + 1 <= most_ejected(serving, self.passive.max_ratio)
        if before is not None and before.ejected:
            assert changes == []
            assert self.table.view(who).ejected_until == before.ejected_until

    @rule(passed=st.floats(0, 40))
    def tick(self, passed: float) -> None:
        self.now += passed
        due = self.table.next_event(self.now)
        changes = self.table.tick(self.now)
        assert bool(changes) == (due is not None and due <= self.now)
        assert self.table.tick(self.now) == []
        serving = sum(self.serving.values())
        assert self.out() <= most_ejected(serving, self.passive.max_ratio)
        assert all(
            (until := self.table.view(target).ejected_until) is None or until > self.now
            for target in self.serving
        )

    @invariant()
    def everything_reads_and_survives(self) -> None:
        for target in self.serving:
            view = self.table.view(target)
            assert view.reason
            assert view.since <= self.now
            assert not (view.ejected and view.on_trial)
            assert view.ejected == (view.ejected_until is not None)
            json.dumps(self.table.dump(target, self.now), allow_nan=False)

    def agrees(self, target: str, before: TargetView | None, changes: list[Change]) -> None:
        """What is told is what one sees, and nothing that one sees goes untold."""
        if before is None:
            assert changes == []
            return
        after = self.table.view(target)
        kinds = {change.kind for change in changes if change.old != change.new}
        assert ("health" in kinds) == (before.health is not after.health)
        assert ("ejection" in kinds) == (
            (before.ejected, before.on_trial) != (after.ejected, after.on_trial)
        )


TestPool = Pool.TestCase
TestPool.settings = settings(stateful_step_count=25)


# ---- taking over ---------------------------------------------------------------------------------


def test_what_a_table_of_before_knows_by_now_counts_but_for_what_we_have_seen_ourselves() -> None:
    """Both look at the same targets for a while; ejections come from live traffic, which is theirs."""
    theirs = checked("a", "b", "c")
    ours = HealthTable(thresholds=NGINX, ejection=PASSIVE)
    for target in "abc":
        ours.add(target, 0.0, theirs.dump(target, 0.0))
        assert not ours.looked_at(target)
    ours.verdict("a", PASS, 1.0)
    assert ours.looked_at("a")
    fail(theirs, "c", 2, 2.0)
    for target in "ab":
        for _ in range(NGINX.fails):
            theirs.verdict(target, REFUSED, 2.0)
    for target in "abc":
        ours.renew(target, theirs.dump(target, 2.0), 2.0)
    assert ours.view("a").health is Health.HEALTHY, "our own probe said so"
    assert ours.view("b").health is Health.UNHEALTHY
    assert ours.view("c").ejected
    assert ours.next_event(2.0) == theirs.next_event(2.0)


def test_an_ejection_that_is_over_for_those_before_is_over_for_us() -> None:
    theirs = checked("a", "b", "c")
    fail(theirs, "c", 2, 0.0)
    ours = HealthTable(thresholds=NGINX, ejection=PASSIVE)
    for target in "abc":
        ours.add(target, 0.0, theirs.dump(target, 0.0))
    assert ours.view("c").ejected
    theirs.tick(11.0)
    ours.renew("c", theirs.dump("c", 11.0), 11.0)
    assert not ours.view("c").ejected
    assert ours.next_event(11.0) is None


def test_without_checks_there_is_nothing_to_look_at() -> None:
    assert unchecked("a").looked_at("a")
