"""How the end of an attempt travels through the data path: one exception, and who interrupts."""

from balancer.core.outcome import Failure
from balancer.wire.waiting import Interrupted, TimedOut


class AttemptFailed(Exception):
    """An attempt ended without a whole answer: the failure and, where there is more to say, what."""

    def __init__(self, failure: Failure, detail: str = "") -> None:
        super().__init__(failure.value)
        self.failure = failure
        self.detail = detail


class Stopped(Interrupted):
    """Somebody other than the clock ended the attempt; `failure` says who."""

    def __init__(self, failure: Failure, detail: str = "") -> None:
        super().__init__(failure.value)
        self.failure = failure
        self.detail = detail


class GoingAway(Interrupted):
    """An idle client connection is to be closed, because this instance drains."""


def ended_by(interruption: Interrupted, timed_out: Failure, detail: str = "") -> AttemptFailed:
    """The end of an attempt by an interruption.

    `timed_out` is what a passed deadline means here, and `detail` what there is more to say of it.
    """
    if isinstance(interruption, Stopped):
        return AttemptFailed(interruption.failure, interruption.detail)
    assert isinstance(interruption, TimedOut)
    return AttemptFailed(timed_out, detail)


def ended_behind(
    cause: OSError | Interrupted, *, timed_out: Failure, broken: Failure, detail: str = ""
) -> AttemptFailed:
    """The same where a connection may have broken instead."""
    if isinstance(cause, Interrupted):
        return ended_by(cause, timed_out, detail)
    return AttemptFailed(broken)
