"""Every way in which an attempt can end, and what follows from it: one row a failure.

The table says whom to blame, what the client is told and whether a repeat makes sense at all;
`balancer.core.retry` adds what depends on the request.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from healthcheck.core.verdict import Evidence


class Failure(StrEnum):
    """Why an attempt ended without a whole answer. The value is what logs say."""

    CONNECT_REFUSED = "connect refused"
    CONNECT_TIMEOUT = "connect timed out"
    CONNECT_UNREACHABLE = "unreachable"
    NAME_UNKNOWN = "name not known"
    TLS_REFUSED = "TLS failed"
    OWN_LIMIT = "no descriptors or ports left here"
    STALE = "idle connection had gone"
    BROKEN = "connection broke before an answer"
    SEND_STALLED = "took no request bytes in time"
    RESPONSE_TIMEOUT = "no answer in time"
    NO_CONTINUE = "neither asked for the body nor answered in time"
    BAD_ANSWER = "answer is not valid HTTP"
    BODY_CUT = "answer broke off"
    BODY_STALLED = "answer stalled"
    CLIENT_LEFT = "client left"
    CLIENT_STALLED = "client stalled"
    CLIENT_BAD = "client sent a bad body"
    CLIENT_TOO_LARGE = "client sent too large a body"
    CUT = "cut by the operator"
    STOPPING = "cut by the shutdown"
    CRASHED = "internal error"


@dataclass(frozen=True, slots=True)
class Consequence:
    """What a failure means.

    Evidence against the backend; the status of our own reply; the RFC 9209 2.3 error type; whether
    another attempt could do better.
    """

    evidence: Evidence
    status: int
    proxy_error: str
    repeatable: bool


_F, _I = Evidence.FAILURE, Evidence.IGNORED
# fmt: off
CONSEQUENCES: Mapping[Failure, Consequence] = {
    Failure.CONNECT_REFUSED:     Consequence(_F, 502, "connection_refused", True),
    Failure.CONNECT_TIMEOUT:     Consequence(_F, 504, "connection_timeout", True),
    Failure.CONNECT_UNREACHABLE: Consequence(_F, 502, "destination_ip_unroutable", True),
    Failure.NAME_UNKNOWN:        Consequence(_I, 502, "dns_error", True),
    Failure.TLS_REFUSED:         Consequence(_F, 502, "tls_protocol_error", True),
    Failure.OWN_LIMIT:           Consequence(_I, 503, "connection_limit_reached", True),
    # A connection that rested may have been closed by a well backend: that says nothing about it.
    Failure.STALE:               Consequence(_I, 502, "connection_terminated", True),
    Failure.BROKEN:              Consequence(_F, 502, "connection_terminated", True),
    Failure.SEND_STALLED:        Consequence(_F, 504, "connection_write_timeout", True),
    Failure.RESPONSE_TIMEOUT:    Consequence(_F, 504, "http_response_timeout", True),
    # RFC 9110 10.1.1: a client is not to wait for 100 for ever. Else whoever does takes backends out.
    Failure.NO_CONTINUE:         Consequence(_I, 504, "http_response_timeout", True),
    Failure.BAD_ANSWER:          Consequence(_F, 502, "http_protocol_error", True),
    Failure.BODY_CUT:            Consequence(_F, 502, "http_response_incomplete", False),
    Failure.BODY_STALLED:        Consequence(_F, 504, "connection_read_timeout", False),
    # 499 is nginx's word in logs for a client that did not wait; it is never sent.
    Failure.CLIENT_LEFT:         Consequence(_I, 499, "http_request_error", False),
    Failure.CLIENT_STALLED:      Consequence(_I, 408, "http_request_error", False),
    Failure.CLIENT_BAD:          Consequence(_I, 400, "http_request_error", False),
    Failure.CLIENT_TOO_LARGE:    Consequence(_I, 413, "http_request_error", False),
    Failure.CUT:                 Consequence(_I, 503, "connection_terminated", True),
    Failure.STOPPING:            Consequence(_I, 503, "connection_terminated", False),
    Failure.CRASHED:             Consequence(_I, 500, "proxy_internal_error", False),
}
# fmt: on

# An origin's 500 is its own affair; these three speak of a gateway or a backend in trouble.
GATEWAY_STATUSES = frozenset({502, 503, 504})


def evidence_of_status(status: int) -> Evidence:
    """What a whole answer with this status says about the backend that gave it."""
    return Evidence.FAILURE if status in GATEWAY_STATUSES else Evidence.SUCCESS


def lacks_descriptors(failure: Failure) -> bool:
    """Whether a connection that is closed here may make room for the one that failed."""
    return failure is Failure.OWN_LIMIT


def failure_of_body(status: int) -> Failure:
    """Which failure it is when a client's body is refused with this status."""
    return Failure.CLIENT_TOO_LARGE if status == 413 else Failure.CLIENT_BAD


def told_to_client(failure: Failure, detail: str) -> str:
    """What an answer says of a failure; which names backends have or lack is for the log alone."""
    return failure.value if failure is Failure.TLS_REFUSED or not detail else detail


def client_is_gone(failure: Failure) -> bool:
    """Whether there is nobody left to answer."""
    return failure is Failure.CLIENT_LEFT


class PickFailure(StrEnum):
    """Why no backend could be picked. The value is what the client and the log are told."""

    EMPTY = "the pool has no backends"
    PENDING = "no backend has passed its first check yet"
    NONE_READY = "every backend is draining or in maintenance"
    NO_WEIGHT = "every ready backend has a weight of zero"
    NONE_AVAILABLE = "no backend is available"
    FULL = "every available backend is full"
    SHED = "the instance has as many requests in flight as it may"

    @property
    def told(self) -> str:
        """The same with the key of the limit, where it is one of ours."""
        return f"{self.value} (max_in_flight)" if self is PickFailure.SHED else self.value


# A backend that closes a resting connection does so within a round trip of our request; one that
# breaks it later was at work on it.
STALE_S_MAX = 1.0


def broke_before_answer(*, reused: bool, after_s: float, answer_bytes: int) -> Failure:
    """Which failure it is when a connection ends before a whole answer head."""
    stale = reused and not answer_bytes and after_s < STALE_S_MAX
    return Failure.STALE if stale else Failure.BROKEN


def refuses_reuse(status: int, *, reused: bool, closes: bool, after_s: float) -> bool:
    """Whether an answer only says that the connection's time was over when we used it again.

    RFC 9110 15.5.9: 408 with close on a resting connection; the request was not looked at.
    """
    return status == 408 and reused and closes and after_s < STALE_S_MAX
