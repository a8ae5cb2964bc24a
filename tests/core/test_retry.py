"""When a failed attempt is repeated: never what may do harm, never without an end."""

import math
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.outcome import CONSEQUENCES, Failure
from balancer.core.retry import (
    UNREPEATABLE_REST_S_MAX,
    WRITTEN_ATTEMPTS_MAX,
    Attempted,
    counts,
    refusal,
    rest_limit,
)


def attempted(
    failure: Failure = Failure.BROKEN,
    *,
    written: bool = True,
    answer_begun: bool = False,
    idempotent: bool = True,
    replayable: bool = True,
    attempts: int = 1,
    written_attempts: int = 1,
    choices: int = 3,
) -> Attempted:
    return Attempted(
        failure=failure,
        written=written,
        answer_begun=answer_begun,
        idempotent=idempotent,
        replayable=replayable,
        attempts=attempts,
        written_attempts=written_attempts,
        choices=choices,
    )


REPEATABLE = [failure for failure in Failure if CONSEQUENCES[failure].repeatable]


@pytest.mark.parametrize("failure", REPEATABLE)
@pytest.mark.parametrize("idempotent", [True, False])
def test_what_was_never_written_is_repeated_for_any_method(
    failure: Failure, idempotent: bool
) -> None:
    assert refusal(attempted(failure, written=False, idempotent=idempotent)) is None


@pytest.mark.parametrize("failure", REPEATABLE)
@pytest.mark.parametrize(("idempotent", "replayable"), list(product((True, False), repeat=2)))
def test_what_was_written_is_repeated_only_if_idempotent_and_replayable(
    failure: Failure, idempotent: bool, replayable: bool
) -> None:
    why_not = refusal(attempted(failure, idempotent=idempotent, replayable=replayable))
    assert (why_not is None) is (idempotent and replayable)


@pytest.mark.parametrize("failure", Failure)
@pytest.mark.parametrize("written", [True, False])
def test_what_the_client_has_begun_to_see_is_never_repeated(
    failure: Failure, written: bool
) -> None:
    why_not = refusal(attempted(failure, written=written, answer_begun=True))
    assert why_not == "the client has part of the answer"


@pytest.mark.parametrize("failure", set(Failure) - set(REPEATABLE))
@pytest.mark.parametrize("written", [True, False])
def test_what_would_end_the_same_is_not_repeated(failure: Failure, written: bool) -> None:
    assert refusal(attempted(failure, written=written)) == "a repeat would end the same"


def test_a_body_that_is_gone_cannot_be_repeated_even_if_this_attempt_wrote_nothing() -> None:
    """An earlier attempt may have sent what is no longer held."""
    assert "too large" in str(refusal(attempted(written=False, replayable=False)))


@pytest.mark.parametrize(("attempts", "again"), [(1, True), (3, True), (4, False)])
def test_unwritten_attempts_end_after_each_choice_and_one_more(attempts: int, again: bool) -> None:
    why_not = refusal(attempted(written=False, attempts=attempts, choices=3))
    assert (why_not is None) is again


def test_without_choices_there_is_no_repeat() -> None:
    assert refusal(attempted(written=False, choices=0)) == "every backend was tried"


@pytest.mark.parametrize("written_attempts", range(1, 6))
def test_written_attempts_are_few(written_attempts: int) -> None:
    """A request that kills backends must not be carried to all of them."""
    why_not = refusal(attempted(written_attempts=written_attempts, attempts=9, choices=99))
    assert (why_not is None) is (written_attempts < WRITTEN_ATTEMPTS_MAX)


@given(
    st.lists(st.tuples(st.sampled_from(Failure), st.booleans()), min_size=60, max_size=60),
    st.booleans(),
    st.integers(0, 20),
)
def test_every_exchange_comes_to_an_end(
    fate: list[tuple[Failure, bool]], idempotent: bool, choices: int
) -> None:
    """Whatever happens to the attempts, there are at most three written ones and one per choice."""
    attempts = written_attempts = 0
    for failure, written in fate:
        attempts += 1
        written_attempts += written
        facts = attempted(
            failure,
            written=written,
            idempotent=idempotent,
            attempts=attempts,
            written_attempts=written_attempts,
            choices=choices,
        )
        if refusal(facts) is not None:
            break
    assert written_attempts <= (WRITTEN_ATTEMPTS_MAX if idempotent else 1)
    assert attempts <= choices + 1 + WRITTEN_ATTEMPTS_MAX


@given(
    st.builds(
        Attempted,
        failure=st.sampled_from(Failure),
        written=st.booleans(),
        answer_begun=st.booleans(),
        idempotent=st.booleans(),
        replayable=st.booleans(),
        attempts=st.integers(1, 9),
        written_attempts=st.integers(0, 9),
        choices=st.integers(0, 9),
    )
)
def test_nothing_is_repeated_against_the_rule(facts: Attempted) -> None:
    if refusal(facts) is None:
        assert not facts.answer_begun
        assert facts.replayable
        assert not facts.written or facts.idempotent


def test_unrepeatable_requests_take_only_connections_that_rested_briefly() -> None:
    assert rest_limit(idempotent=True) == math.inf
    assert rest_limit(idempotent=False) == UNREPEATABLE_REST_S_MAX


@pytest.mark.parametrize(
    "failure",
    [
        Failure.CONNECT_TIMEOUT,
        Failure.SEND_STALLED,
        Failure.RESPONSE_TIMEOUT,
        Failure.NO_CONTINUE,
    ],
)
def test_who_let_one_attempt_wait_in_vain_is_not_waited_for_again(failure: Failure) -> None:
    """A second wait for the only backend doubled the client's, and hid nothing."""
    assert refusal(attempted(failure, attempts=1, choices=2)) is None
    assert refusal(attempted(failure, attempts=1, choices=1)) == "every backend was given its time"


@pytest.mark.parametrize(
    ("failure", "written", "counted"),
    [
        (Failure.BROKEN, True, True),
        (Failure.BROKEN, False, False),
        (Failure.STALE, True, False),  # a connection that had gone reached nobody
    ],
)
def test_only_what_may_have_reached_a_backend_counts(
    failure: Failure, written: bool, counted: bool
) -> None:
    assert counts(failure, written=written) is counted
