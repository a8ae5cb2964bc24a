"""A probe is not blamed for what our own loop did."""

from healthcheck.core.loop_lag import LoopLag
from healthcheck.core.verdict import Outcome, Verdict

FAIL = Verdict(Outcome.FAIL, "no answer in 2 s")


def outcome(lag: LoopLag, *, began: float, now: float) -> Outcome:
    return lag.excuse(FAIL, began=began, now=now).outcome


def test_a_loop_on_time_excuses_nothing() -> None:
    lag = LoopLag(0.1)
    assert lag.expect(0.0) == 0.05
    lag.tick(0.06)
    assert lag.expect(0.06) == 0.11
    assert outcome(lag, began=0.0, now=0.2) is Outcome.FAIL


def test_a_late_tick_voids_the_failures_of_that_time() -> None:
    lag = LoopLag(0.1)
    lag.expect(0.0)
    lag.tick(1.5)
    assert lag.excuse(FAIL, began=0.0, now=2.0) == Verdict(
        Outcome.VOID, "our own loop was 1.45 s late: no answer in 2 s"
    )
    passed = Verdict(Outcome.PASS, "status 200")
    assert lag.excuse(passed, began=0.0, now=2.0) is passed
    assert outcome(lag, began=1.6, now=3.6) is Outcome.FAIL, "began after it"


def test_a_probe_that_ends_before_the_ticker_wakes_up_sees_the_lag_too() -> None:
    lag = LoopLag(0.1)
    lag.expect(0.0)
    assert outcome(lag, began=0.0, now=1.0) is Outcome.VOID


def test_a_probe_that_begins_before_the_ticker_wakes_up_was_not_in_the_lag() -> None:
    lag = LoopLag(0.1)
    lag.expect(0.0)
    lag.expect(1.0)
    lag.tick(1.001)
    assert outcome(lag, began=1.0, now=1.02) is Outcome.FAIL


def test_nothing_is_late_while_no_tick_is_due() -> None:
    lag = LoopLag(0.1)
    lag.expect(0.0)
    lag.tick(0.05)
    assert outcome(lag, began=0.0, now=60.0) is Outcome.FAIL
