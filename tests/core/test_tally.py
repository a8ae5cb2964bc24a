"""Which evidence is news: every failure, the first success after one, and all on trial."""

import pytest

from balancer.core.tally import Tally
from healthcheck.core.verdict import Evidence

S, F, I = Evidence.SUCCESS, Evidence.FAILURE, Evidence.IGNORED  # noqa: E741 - rows of letters


@pytest.mark.parametrize(
    ("unsettled", "evidence", "news"),
    [
        (False, [S, S, S], [False, False, False]),
        (False, [F, F], [True, True]),
        (False, [S, F, S, S], [False, True, True, False]),
        (False, [F, I, S], [True, False, True]),
        (False, [I, S], [False, False]),
        (True, [S, S], [True, False]),
        (True, [I, I, S], [False, False, True]),
        (True, [F, S], [True, True]),
    ],
)
def test_what_is_news(unsettled: bool, evidence: list[Evidence], news: list[bool]) -> None:
    tally = Tally(unsettled=unsettled)
    assert [tally.count(one, on_trial=False) for one in evidence] == news
    assert (tally.requests, tally.failures) == (len(evidence), evidence.count(F))


def test_on_trial_every_success_is_news() -> None:
    """The first one may be of an attempt from before the ejection, which says nothing."""
    tally = Tally()
    assert [tally.count(one, on_trial=True) for one in (S, S, I, S)] == [True, True, False, True]
