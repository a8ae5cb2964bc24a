"""Verdicts count only in a row, and every kind of failure counts the same."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthcheck.core.probe_health import (
    LEADS_TO,
    ProbeHealth,
    Thresholds,
    step,
    streak_words,
    verdicts_needed,
)
from healthcheck.core.verdict import Health, Outcome, Verdict

NGINX = Thresholds(fails=3, passes=2)
LETTERS = {"P": Outcome.PASS, "F": Outcome.FAIL, "V": Outcome.VOID}


def after(verdicts: str, start: Health = Health.UNKNOWN, thresholds: Thresholds = NGINX) -> str:
    """The state after each verdict: U unknown, H healthy, D (down) unhealthy."""
    health, states = ProbeHealth(start), ""
    for letter in verdicts:
        health = step(health, LETTERS[letter], thresholds)
        states += {"unknown": "U", "healthy": "H", "unhealthy": "D"}[health.state]
    return states


@pytest.mark.parametrize(
    ("start", "verdicts", "states"),
    [
        (Health.UNKNOWN, "P", "H"),  # one pass is enough the first time
        (Health.UNKNOWN, "F", "D"),
        (Health.UNKNOWN, "VVP", "UUH"),
        (Health.HEALTHY, "FFF", "HHD"),
        (Health.HEALTHY, "FPFPFPFPF", "HHHHHHHHH"),
        (Health.HEALTHY, "FFPFFPFF", "HHHHHHHH"),
        (Health.HEALTHY, "FFVF", "HHHD"),  # a void probe is as if it had not been
        (Health.UNHEALTHY, "PFP", "DDD"),
        (Health.UNHEALTHY, "PP", "DH"),
        (Health.UNHEALTHY, "PVP", "DDH"),
        (Health.UNHEALTHY, "PFPP", "DDDH"),
        (Health.UNKNOWN, "FPP", "DDH"),
        (Health.UNKNOWN, "PFFFPP", "HHHDDH"),
    ],
)
def test_where_verdicts_lead(start: Health, verdicts: str, states: str) -> None:
    assert after(verdicts, start) == states


@given(st.lists(st.sampled_from("PFV")), st.integers(1, 5), st.integers(1, 5))
def test_only_verdicts_in_a_row_flip_a_target(verdicts: list[str], fails: int, passes: int) -> None:
    """Stated again without a counter: the last so many that were not void are all against it."""
    thresholds = Thresholds(fails=fails, passes=passes)
    health, seen = ProbeHealth(Health.HEALTHY), ""
    for letter in verdicts:
        before = health.state
        health = step(health, LETTERS[letter], thresholds)
        seen += letter if letter != "V" else ""
        against = "F" * fails if before is Health.HEALTHY else "P" * passes
        if health.state is not before:
            assert letter != "V"
            assert seen.endswith(against)
            seen = ""
        else:
            assert letter == "V" or not seen.endswith(against)


def test_every_pair_of_state_and_verdict_is_a_move_a_confirmation_or_void() -> None:
    for state, outcome in product(Health, Outcome):
        moved = step(ProbeHealth(state), outcome, Thresholds(fails=1, passes=1)).state
        assert moved is LEADS_TO.get((state, outcome), state)


def test_the_streak_reads_as_a_distance() -> None:
    assert streak_words(ProbeHealth(Health.HEALTHY, 2), NGINX) == "2/3 fails"
    assert streak_words(ProbeHealth(Health.UNHEALTHY, 1), NGINX) == "1/2 passes"
    assert streak_words(ProbeHealth(Health.HEALTHY), NGINX) == ""
    assert verdicts_needed(Health.UNKNOWN, NGINX) == 1


@pytest.mark.parametrize(("fails", "passes"), [(0, 1), (1, 0)])
def test_a_threshold_of_nothing_is_a_mistake(fails: int, passes: int) -> None:
    with pytest.raises(AssertionError):
        Thresholds(fails=fails, passes=passes)


def test_only_a_void_verdict_says_nothing() -> None:
    silent = [outcome for outcome in Outcome if Verdict(outcome, "").says_nothing]
    assert silent == [Outcome.VOID]
