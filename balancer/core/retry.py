"""Whether a failed attempt may be repeated.

Never what may have been received and must not be repeated, never what a client has begun to see,
never without an end.
"""

from dataclasses import dataclass

from balancer.core.outcome import CONSEQUENCES, Failure

# Of attempts whose request was written: more would carry a poison request to ever more backends, and
# by then passive ejection is at work on broken ones.
WRITTEN_ATTEMPTS_MAX = 5
# A connection that rested longer may be at the end of its backend's keep-alive time; a request that
# cannot be repeated does not take that risk (Node.js closes after 5 s, gunicorn after 2 s).
UNREPEATABLE_REST_S_MAX = 1.0


# Waiting a second time for a backend that let one attempt wait in vain hides nothing; it doubles the
# client's wait.
_WAITED = frozenset(
    {Failure.CONNECT_TIMEOUT, Failure.SEND_STALLED, Failure.RESPONSE_TIMEOUT, Failure.NO_CONTINUE}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempted:
    """The facts about a failed attempt and its exchange.

    `written`: a byte of the request may have left. `answer_begun`: the client has seen a byte of an
    answer. `replayable`: every byte of the body that was taken from the client is still held.
    `attempts`, `written_attempts`: how many so far, this one included. `choices`: backends that
    may be picked now.
    """

    failure: Failure
    written: bool
    answer_begun: bool
    idempotent: bool
    replayable: bool
    attempts: int
    written_attempts: int
    choices: int


def counts(failure: Failure, *, written: bool) -> bool:
    """Whether an attempt is one of WRITTEN_ATTEMPTS_MAX; a connection that had gone reached nobody."""
    return written and failure is not Failure.STALE


def refusal(facts: Attempted) -> str | None:
    """None: repeat it at once. Otherwise why not, in words for the log."""
    if facts.answer_begun:
        return "the client has part of the answer"
    if not CONSEQUENCES[facts.failure].repeatable:
        return "a repeat would end the same"
    if not facts.replayable:
        return "the body is too large to be kept for a repeat"
    if facts.failure in _WAITED and facts.attempts >= facts.choices:
        return "every backend was given its time"
    if not facts.written:
        # Each choice once, and one fresh connection to the same one where there is no other.
        return None if facts.attempts <= facts.choices else "every backend was tried"
    if not facts.idempotent:
        return "it may have been received, and its method must not be repeated"
    if facts.written_attempts >= WRITTEN_ATTEMPTS_MAX:
        return f"{WRITTEN_ATTEMPTS_MAX} attempts were enough"
    return None


def rest_limit(idempotent: bool) -> float:
    """How long a connection may have rested to be reused for such a request, in seconds."""
    return float("inf") if idempotent else UNREPEATABLE_REST_S_MAX
