"""One target's ejections: how long, how they are forgotten, how a trial ends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthcheck.core.ejection import (
    Ejection,
    EjectionSettings,
    Standing,
    acquitted,
    deserves_to_go,
    eject,
    failed,
    most_ejected,
    on_trial,
    succeeded,
    times_in_a_row,
)

SETTINGS = EjectionSettings(
    consecutive_failures=3, base_s=10.0, max_s=35.0, max_ratio=0.5, end_on_pass=True
)


def out_for(ejection: Ejection, now: float) -> float:
    assert ejection.until is not None
    return ejection.until - now


def test_failures_in_a_row_deserve_an_ejection_and_a_success_starts_over() -> None:
    ejection = Ejection(since=0.0)
    for _ in range(2):
        ejection = failed(ejection)
    assert not deserves_to_go(ejection, SETTINGS)
    assert deserves_to_go(failed(ejection), SETTINGS)
    assert not deserves_to_go(failed(succeeded(ejection, 1.0)), SETTINGS)


def test_ejections_in_a_row_last_longer_up_to_the_longest() -> None:
    ejection, lengths = Ejection(since=0.0), []
    for now in (0.0, 100.0, 200.0, 300.0, 400.0, 500.0):
        ejection = eject(ejection, SETTINGS, now)
        lengths.append(out_for(ejection, now))
        ejection = on_trial(ejection, now + lengths[-1])
    assert lengths == [10.0, 20.0, 30.0, 35.0, 35.0, 35.0]
    assert ejection.times == 4, "counting on would only delay the decay"


def test_one_ejection_is_forgotten_for_each_base_time_served() -> None:
    ejection = eject(eject(Ejection(since=0.0), SETTINGS, 0.0), SETTINGS, 0.0)
    ejection = succeeded(on_trial(ejection, 20.0), 25.0)
    held = [times_in_a_row(ejection, SETTINGS, now) for now in (25.0, 34.9, 35.0, 44.9, 45.0, 99.0)]
    assert held == [2, 2, 1, 1, 0, 0]
    assert out_for(eject(ejection, SETTINGS, 36.0), 36.0) == 20.0


def test_nothing_is_forgotten_while_out_or_on_trial() -> None:
    ejection = eject(Ejection(since=0.0), SETTINGS, 0.0)
    assert times_in_a_row(ejection, SETTINGS, 1000.0) == 1
    assert times_in_a_row(on_trial(ejection, 10.0), SETTINGS, 1000.0) == 1


def test_one_failure_on_trial_is_enough_and_one_success_ends_it() -> None:
    trial = on_trial(eject(Ejection(since=0.0), SETTINGS, 0.0), 10.0)
    assert trial.standing is Standing.ON_TRIAL
    assert not deserves_to_go(trial, SETTINGS)
    assert deserves_to_go(failed(trial), SETTINGS)
    assert succeeded(trial, 11.0).standing is Standing.SERVING
    assert acquitted(failed(trial), 11.0) == Ejection(since=11.0, times=1, ejected_at=0.0)


def test_news_of_one_that_is_out_changes_nothing() -> None:
    ejection = eject(Ejection(since=0.0), SETTINGS, 0.0)
    assert failed(ejection) is ejection
    assert succeeded(ejection, 1.0) is ejection
    assert not deserves_to_go(ejection, SETTINGS)


@pytest.mark.parametrize(
    ("serving", "ratio", "most"),
    [
        (1, 1.0, 0),
        (2, 0.1, 0),  # a small share of few is nobody
        (3, 0.2, 0),
        (5, 0.2, 1),
        (3, 0.5, 1),
        (4, 0.5, 2),
        (10, 0.3, 3),
        (100, 0.29, 29),  # 0.29 × 100 is 28.999999999999996
        (10, 0.0, 0),
        (3, 1.0, 3),
    ],
)
def test_how_many_may_be_out(serving: int, ratio: float, most: int) -> None:
    assert most_ejected(serving, ratio) == most


@given(st.integers(0, 500), st.floats(0, 1))
def test_never_more_than_the_share_but_for_the_first(serving: int, ratio: float) -> None:
    assert most_ejected(serving, ratio) <= max(serving * ratio + 1e-6, 1 if ratio > 0 else 0)


@pytest.mark.parametrize(("failures", "base_s"), [(0, 1.0), (1, 0.0)])
def test_settings_that_make_no_sense_are_a_mistake(failures: int, base_s: float) -> None:
    with pytest.raises(AssertionError):
        EjectionSettings(
            consecutive_failures=failures, base_s=base_s, max_s=1, max_ratio=1, end_on_pass=True
        )
