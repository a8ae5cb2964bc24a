"""What an HTTP answer has to look like."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthcheck.core.expectation import (
    BodySeen,
    BodyWish,
    Expectation,
    body_matters,
    containing,
    judge_answer,
    matching,
    ranges_words,
)

GOOD = ((200, 299), (404, 404))


def expecting(wish: BodyWish | None) -> Expectation:
    return Expectation(status=GOOD, body=wish, body_limit=100)


def seen(data: bytes, **otherwise: object) -> BodySeen:
    return BodySeen(**{"data": data, "whole": True, "broken": None, "coding": None} | otherwise)  # type: ignore[arg-type]


@given(st.integers(100, 599))
def test_a_status_passes_if_a_range_has_it(status: int) -> None:
    verdict = judge_answer(status, seen(b""), expecting(None))
    good = 200 <= status <= 299 or status == 404
    assert verdict.reason == (
        f"status {status}" if good else f"status {status}, expected 200-299, 404"
    )


def test_ranges_read_as_they_are_written() -> None:
    assert ranges_words(((200, 299), (304, 304))) == "200-299, 304"


def test_the_body_matters_only_after_the_right_status() -> None:
    assert body_matters(200, expecting(containing("ok")))
    assert not body_matters(503, expecting(containing("ok")))
    assert not body_matters(200, expecting(None))


@pytest.mark.parametrize(
    ("wish", "body", "reason"),
    [
        (containing("ok"), seen(b"it is ok"), "status 200"),
        (containing("ok"), seen(b"ok, bro", broken="body ended early"), "status 200"),
        (containing("ok"), seen(b"o", broken="body ended early"), "body ended early"),
        (containing("ok"), seen(b""), 'body does not contain "ok"'),
        (
            containing("ok"),
            seen(b"x", whole=False),
            'body does not contain "ok" in the first 100 bytes',
        ),
        (matching("^a+$"), seen(b"aaa"), "status 200"),
        (matching("^a+$"), seen(b"aaa", broken="connection reset"), "connection reset"),
        (
            matching("^a+$"),
            seen(b"\xff", coding="br"),
            'body does not match "^a+$" (it came in br, which was not asked for)',
        ),
    ],
)
def test_what_is_said_of_a_body(wish: BodyWish, body: BodySeen, reason: str) -> None:
    assert judge_answer(200, body, expecting(wish)).reason == reason


@given(st.binary(max_size=40), st.integers(1, 5), st.text("ab", min_size=1, max_size=4))
def test_a_text_is_found_however_it_is_cut_into_pieces(body: bytes, size: int, text: str) -> None:
    found, so_far = False, b""
    body = body + b"aabab"
    for start in range(0, len(body), size):
        piece = body[start : start + size]
        so_far += piece
        found = found or containing(text).found(so_far, len(piece))
    assert found == (text.encode() in body)
