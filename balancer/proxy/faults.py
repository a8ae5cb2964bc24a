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


def failure_of(interruption: Interrupted, timed_out: Failure) -> Failure:
    """The failure behind an interruption; `timed_out` is what a passed deadline means here."""
    if isinstance(interruption, Stopped):
        return interruption.failure
    assert isinstance(interruption, TimedOut)
    return timed_out


def ended_by(interruption: Interrupted, timed_out: Failure) -> AttemptFailed:
    """The end of an attempt that was interrupted, with what whoever did so has said of it."""
    detail = interruption.detail if isinstance(interruption, Stopped) else ""
    return AttemptFailed(failure_of(interruption, timed_out), detail)


def failure_behind(cause: OSError | Interrupted, *, timed_out: Failure, broken: Failure) -> Failure:
    """The same where a connection may have broken instead."""
    return failure_of(cause, timed_out) if isinstance(cause, Interrupted) else broken
