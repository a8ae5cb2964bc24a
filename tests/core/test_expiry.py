"""When a certificate's end concerns an operator."""

import pytest

from balancer.core.expiry import DAY_S, Concern, concern, left_in_words


@pytest.mark.parametrize(
    ("days", "what", "words"),
    [
        (31, Concern.NONE, "expires in 31 days"),
        (30, Concern.SOON, "expires in 30 days"),
        (7.01, Concern.SOON, "expires in 7 days"),
        (7, Concern.URGENT, "expires in 7 days"),
        (1 / 24, Concern.URGENT, "expires in 1 hour"),
        (1.5, Concern.URGENT, "expires in 36 hours"),
        (0, Concern.EXPIRED, "expired 0 hours ago"),
        (-3, Concern.EXPIRED, "expired 3 days ago"),
    ],
)
def test_a_month_and_a_week_before_and_then(days: float, what: Concern, words: str) -> None:
    assert concern(days * DAY_S) is what
    assert left_in_words(days * DAY_S) == words


def test_each_is_worse_than_the_one_before() -> None:
    assert [each.rank for each in Concern] == [0, 1, 2, 3]
