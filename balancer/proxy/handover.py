"""What the plain path hands over when an exchange turns out not to be plain: how far it has come.

No failure is judged before the hand-over: the general flow repeats the last step that did not
succeed (a send, a read, a wait) and meets the same fact there, with the tables that decide on it.
"""

from dataclasses import dataclass
from typing import TypeAlias

from balancer.core.backend import BackendView
from balancer.proxy.idle import UpstreamConnection
from balancer.proxy.pool import Pool
from balancer.telemetry.record import AttemptRecord, ExchangeRecord
from balancer.wire.splice import Splice
from balancer.wire.strict_heads import PlainRequest, PlainResponse


@dataclass(frozen=True, slots=True)
class Unread:
    """Nothing has begun: `data` is to be read as if it had just come, or first bytes `began` to."""

    data: bytes
    began: float | None = None


@dataclass(frozen=True, slots=True)
class Short:
    """Nothing has begun: `data` begins with a plain request of `size` bytes that is not all there."""

    data: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Arrived:
    """The client has just come, by a listener that wants something before HTTP begins."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The exchange is over, and the connection is to be closed, with time to read the answer."""


@dataclass(frozen=True, slots=True)
class Crashed:
    """A mistake of ours in the lane; `data` is what came of a request that has no answer yet."""

    exc: Exception
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerBegun:
    """The answer's head was read: `out` is to be sent, `content` bytes of it being body.

    `left` bytes of the body are still to come from the backend, what is in its buffer included;
    of an answer in chunks, all of them. `splice` moves those that are left.
    """

    head: PlainResponse
    out: bytes
    content: int
    left: int
    splice: Splice | None = None


@dataclass(frozen=True, slots=True)
class Begun:
    """An attempt is under way and counted in flight.

    `data` is what came from the client, `sent_head` the head as it goes to the backend. `connection`
    is None where there was no connection at rest. `unsent` is what the connection did not take of
    the request; `written` whether it took, or may yet take, any. `answer` is None while its head
    is not read; what came of it is in the buffer of `connection`. `crash` is a mistake of ours.
    """

    request: PlainRequest
    data: bytes
    sent_head: bytes
    request_id: bytes
    record: ExchangeRecord
    attempt: AttemptRecord
    pool: Pool
    view: BackendView
    connection: UpstreamConnection | None = None
    unsent: bytes = b""
    written: bool = True
    answer: AnswerBegun | None = None
    crash: Exception | None = None


Handover: TypeAlias = Arrived | Unread | Answered | Crashed | Begun
ARRIVED = Arrived()
ANSWERED = Answered()
