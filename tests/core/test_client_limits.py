"""What clients are allowed: how much is too much, and what they are told, by the name of the limit."""

from collections.abc import Callable

import pytest

from balancer.core.client_limits import NO_LIMIT, ClientLimits
from balancer.core.message import BadMessage
from balancer.core.outcome import Failure, failure_of_body

LIMITS = ClientLimits(
    header_s=10,
    idle_s=20,
    body_s=30,
    head_bytes_max=1000,
    fields_max=3,
    target_bytes_max=50,
    body_bytes_max=100,
    upload_rate_min=7,
    download_rate_min=8,
)
ANY = ClientLimits(header_s=1, idle_s=1, body_s=1, head_bytes_max=1)


def head(fields: int) -> bytes:
    return b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * fields + b"\r\n"


CHECKS: list[tuple[str, int, Callable[[ClientLimits, int], None]]] = [
    ("431 client.max_fields", 3, lambda limits, n: limits.check_fields(head(n))),
    ("414 client.max_target", 50, lambda limits, n: limits.check_target("/" * n)),
    ("413 client.max_body", 100, lambda limits, n: limits.check_body(n)),
]


@pytest.mark.parametrize(("told", "most", "check"), CHECKS, ids=[told for told, *_ in CHECKS])
def test_a_limit_is_the_most_that_passes(
    told: str, most: int, check: Callable[[ClientLimits, int], None]
) -> None:
    status, key = told.split()
    check(LIMITS, most)
    check(ANY, 10_000)
    with pytest.raises(BadMessage) as caught:
        check(LIMITS, most + 1)
    assert caught.value.status == int(status)
    assert f"({key})" in caught.value.sentence
    assert str(most) in caught.value.sentence


@pytest.mark.parametrize(
    ("first_line", "status", "what"),
    [
        (-1, 414, "request line"),  # not a whole one yet
        (1001, 414, "request line"),
        (1000, 431, "head"),
        (0, 431, "head"),
    ],
)
def test_a_large_head_is_told_apart_from_a_long_line(
    first_line: int, status: int, what: str
) -> None:
    exc = LIMITS.head_too_large(first_line)
    assert exc.status == status
    assert exc.sentence == f"the {what} is longer than 1000 bytes (client.max_header)"


def test_a_late_head_is_told_how_long_it_had() -> None:
    exc = LIMITS.head_too_late()
    assert (exc.status, exc.sentence) == (
        408,
        "no whole request head within 10 s (client.header_timeout)",
    )


def test_a_first_request_is_not_waited_for_as_long_as_another() -> None:
    assert [LIMITS.rest_s(requests) for requests in (0, 1, 2)] == [10, 20, 20]


def test_who_is_too_slow_is_told_what_is_asked() -> None:
    assert LIMITS.sends_too_slowly() == (
        "kept us waiting for 30 s (client.body_timeout)"
        " while it sent its body at less than 7 bytes a second (client.min_upload_rate)"
    )
    assert LIMITS.takes_too_slowly() == (
        "kept us waiting for 30 s (client.body_timeout)"
        " while it took its answer at less than 8 bytes a second (client.min_download_rate)"
    )
    assert ANY.takes_too_slowly() == "kept us waiting for 1 s (client.body_timeout)"


def test_the_paces_are_those_of_the_limits() -> None:
    for pace, rate in ((LIMITS.upload_pace(), 7), (LIMITS.download_pace(), 8)):
        assert pace.left_s == 30
        pace.waited(20)
        pace.moved(rate)
        assert pace.left_s == 11


def test_what_is_not_said_is_no_limit() -> None:
    assert {ANY.fields_max, ANY.target_bytes_max, ANY.body_bytes_max, ANY.requests_max} == {
        NO_LIMIT
    }
    assert ANY.age_max_s == float("inf")


def test_a_body_that_is_too_large_is_not_called_bad() -> None:
    assert failure_of_body(413) is Failure.CLIENT_TOO_LARGE
    assert failure_of_body(400) is Failure.CLIENT_BAD
