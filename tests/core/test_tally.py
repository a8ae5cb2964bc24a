"""Which evidence is news: every failure, the first success after one, and all on trial."""

import pytest

from balancer.core.tally import Tally
from healthcheck.core.verdict import Evidence

S, F, I = Evidence.SUCCESS, Evidence.FAILURE, Evidence.IGNORED  # noqa: E741 - rows of letters


@pytest.mark.parametrize(
    ("evidence", "news"),
    [
        ([S, S, S], [False, False, False]),
        ([F, F], [True, True]),
        ([S, F, S, S], [False, True, True, False]),
        ([F, I, I, S, S], [True, False, False, True, False]),
        ([I, S], [False, False]),
    ],
)
def test_what_is_news(evidence: list[Evidence], news: list[bool]) -> None:
    tally = Tally()
    told = [tally.count(one, began=float(at), on_trial=False) for at, one in enumerate(evidence)]
    assert told == news
    assert (tally.requests, tally.failures) == (len(evidence), evidence.count(F))


def test_on_trial_every_success_is_news() -> None:
    """The first one may be of an attempt from before the ejection, which says nothing."""
    tally = Tally()
    told = [tally.count(one, began=1.0, on_trial=True) for one in (S, S, I, S)]
    assert told == [True, True, False, True]


def test_a_success_that_began_before_the_failure_leaves_the_next_one_news() -> None:
    """The judge ignores one from before a maintenance; the failure after it then stayed for ever."""
    tally = Tally()
    rows = [(F, 5.0), (S, 4.0), (S, 5.0), (S, 9.0)]
    told = [tally.count(one, began=began, on_trial=False) for one, began in rows]
    assert told == [True, True, True, False]
