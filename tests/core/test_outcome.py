"""The table of failures is whole, and every row can be told, logged and answered."""

import re

import pytest

from balancer.core.outcome import (
    CONSEQUENCES,
    GATEWAY_STATUSES,
    STALE_S_MAX,
    Failure,
    PickFailure,
    broke_before_answer,
    client_is_gone,
    evidence_of_status,
    refuses_reuse,
    told_to_client,
)
from balancer.core.replies import REASONS
from healthcheck.core.verdict import Evidence

# RFC 9209 2.3, as far as the table uses it.
PROXY_ERRORS = {
    "connection_limit_reached",
    "connection_read_timeout",
    "connection_refused",
    "connection_terminated",
    "connection_timeout",
    "connection_write_timeout",
    "destination_ip_unroutable",
    "dns_error",
    "http_protocol_error",
    "http_request_error",
    "http_response_incomplete",
    "http_response_timeout",
    "proxy_internal_error",
    "tls_protocol_error",
}
BLAMELESS = {
    Failure.NAME_UNKNOWN,
    Failure.OWN_LIMIT,
    Failure.STALE,
    Failure.NO_CONTINUE,
    Failure.CLIENT_LEFT,
    Failure.CLIENT_STALLED,
    Failure.CLIENT_BAD,
    Failure.CLIENT_TOO_LARGE,
    Failure.CUT,
    Failure.STOPPING,
    Failure.CRASHED,
}
FINAL = {
    Failure.BODY_CUT,
    Failure.BODY_STALLED,
    Failure.CLIENT_LEFT,
    Failure.CLIENT_STALLED,
    Failure.CLIENT_BAD,
    Failure.CLIENT_TOO_LARGE,
    Failure.STOPPING,
    Failure.CRASHED,
}


def test_every_failure_has_its_row() -> None:
    assert set(CONSEQUENCES) == set(Failure)


@pytest.mark.parametrize("failure", Failure)
def test_a_row_says_what_can_be_said_on_the_wire(failure: Failure) -> None:
    row = CONSEQUENCES[failure]
    assert row.proxy_error in PROXY_ERRORS
    assert client_is_gone(failure) or row.status in REASONS


@pytest.mark.parametrize("failure", Failure)
def test_only_the_backends_own_failures_are_held_against_it(failure: Failure) -> None:
    """Clients that leave, resting connections, our own limits and operators blame nobody."""
    blamed = CONSEQUENCES[failure].evidence is Evidence.FAILURE
    assert blamed is (failure not in BLAMELESS)
    assert CONSEQUENCES[failure].evidence is not Evidence.SUCCESS


@pytest.mark.parametrize("failure", Failure)
def test_only_what_another_backend_could_do_better_is_repeatable(failure: Failure) -> None:
    assert CONSEQUENCES[failure].repeatable is (failure not in FINAL)


def test_a_limit_of_ours_is_told_with_its_key() -> None:
    assert PickFailure.SHED.told.endswith(" (max_in_flight)")
    assert PickFailure.FULL.told == PickFailure.FULL.value


@pytest.mark.parametrize("word", [*Failure, *PickFailure])
def test_reasons_are_plain_words(word: str) -> None:
    assert re.fullmatch(r"[A-Za-z]+( [A-Za-z]+)*", word)


@pytest.mark.parametrize("failure", Failure)
def test_only_a_client_that_left_cannot_be_answered(failure: Failure) -> None:
    assert client_is_gone(failure) is (failure is Failure.CLIENT_LEFT)


@pytest.mark.parametrize("failure", Failure)
def test_a_client_is_told_the_detail_unless_it_names_what_is_ours(failure: Failure) -> None:
    secret = failure is Failure.TLS_REFUSED
    assert told_to_client(failure, "in detail") == (failure.value if secret else "in detail")
    assert told_to_client(failure, "") == failure.value


def test_only_gateway_statuses_speak_of_a_backend_in_trouble() -> None:
    said = {status: evidence_of_status(status) for status in range(200, 600)}
    assert {s for s, evidence in said.items() if evidence is Evidence.FAILURE} == {502, 503, 504}
    assert set(said.values()) == {Evidence.FAILURE, Evidence.SUCCESS}
    assert {502, 503, 504} == GATEWAY_STATUSES


@pytest.mark.parametrize(
    ("reused", "after_s", "answer_bytes", "failure"),
    [
        (True, 0.0, 0, Failure.STALE),
        (True, STALE_S_MAX - 0.001, 0, Failure.STALE),
        (True, STALE_S_MAX, 0, Failure.BROKEN),
        (True, 0.0, 1, Failure.BROKEN),
        (False, 0.0, 0, Failure.BROKEN),
        (False, 9.0, 5, Failure.BROKEN),
    ],
)
def test_a_break_is_stale_only_at_once_on_a_connection_that_rested(
    reused: bool, after_s: float, answer_bytes: int, failure: Failure
) -> None:
    found = broke_before_answer(reused=reused, after_s=after_s, answer_bytes=answer_bytes)
    assert found is failure


@pytest.mark.parametrize(
    ("status", "reused", "closes", "after_s", "refuses"),
    [
        (408, True, True, 0.1, True),
        (200, True, True, 0.1, False),
        (408, False, True, 0.1, False),
        (408, True, False, 0.1, False),
        (408, True, True, 1.0, False),
    ],
)
def test_a_408_that_crosses_our_request_says_the_connection_was_over(
    status: int, reused: bool, closes: bool, after_s: float, refuses: bool
) -> None:
    assert refuses_reuse(status, reused=reused, closes=closes, after_s=after_s) is refuses
