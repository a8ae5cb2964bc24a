"""What supervisor and worker say to each other: one struct a message, and nothing else.

Down go the whole desired state (`Plan`), news of one pool, and orders; up go evidence, answers and
confirmations. Times are lengths, never points: the clocks of two processes cannot be compared.
Descriptors travel beside the message that names them.
"""

from typing import NamedTuple, TypeAlias

import msgspec

from balancer.core.backend import BackendId, BackendView
from balancer.core.client_limits import ClientLimits
from balancer.core.field_names import FieldRules
from balancer.proxy.pool import PoolLimits
from balancer.proxy.service import ListenerRules
from healthcheck.core.verdict import Evidence

SHARED = -1
"""The slot of a socket that every worker accepts on: a unix socket, or one that was given to us."""


class SocketKey(NamedTuple):
    """A listening socket: the place as the config writes it, and the worker slot it is for."""

    bind: str
    slot: int


class Message(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Anything that is said."""


class RoutePlan(Message, frozen=True):
    """One route; first match wins."""

    host: str | None
    path: str
    pool: str


class PoolNews(Message, frozen=True):
    """One pool at one moment; of its backends those that have changed, or all if `whole`."""

    number: int
    name: str
    policy: str
    views: tuple[BackendView, ...]
    whole: bool
    pending: tuple[str, ...]
    panic: bool
    numbers: str
    eject_after: int | None
    ejectable: int


class PoolPlan(Message, frozen=True):
    """One pool as a worker is to serve it. `base_ejection_s`: for one that has no supervisor."""

    news: PoolNews
    limits: PoolLimits
    base_ejection_s: float


class LogPlan(Message, frozen=True):
    """Where lines go, and how they look. `access`: "off", "stdout" or a path."""

    access: str
    access_json: bool
    json: bool
    colours: bool
    level: str


class Plan(Message, frozen=True):
    """All that a worker is to be; it keeps what it has of it already.

    `sockets`: all that it may hold. `leaving`: those that it is to empty and close when told to let
    go. `orphan_s`: how long it serves without a supervisor.
    """

    number: int
    slot: int
    row: int
    limits: ClientLimits
    in_flight_max: int
    listeners: tuple[ListenerRules, ...]
    trusted_proxies: tuple[str, ...]
    fields: FieldRules
    routes: tuple[RoutePlan, ...]
    pools: tuple[PoolPlan, ...]
    sockets: tuple[SocketKey, ...]
    leaving: tuple[SocketKey, ...]
    accept: tuple[int, ...]
    log: LogPlan
    orphan_s: float
    shutdown_s: float


class Memory(Message, frozen=True):
    """The board, as one descriptor."""


class Sockets(Message, frozen=True):
    """Listening sockets, as descriptors in this order."""

    keys: tuple[SocketKey, ...]


class Accept(Message, frozen=True):
    """From now on accept on the sockets of these slots, and on the shared ones; none: nowhere."""

    number: int
    slots: tuple[int, ...]


class LetGo(Message, frozen=True):
    """Empty the sockets that are leaving, and close them."""

    number: int


class Drain(Message, frozen=True):
    """Take nothing new, let what runs finish, cut it after `limit_s`, and end; None: no limit.

    `patient`: clients whose connection rests are not dismissed, who might be about to send: they
    leave with their next answer, or by themselves. May be said again otherwise.
    """

    limit_s: float | None
    patient: bool = False


class Cut(Message, frozen=True):
    """End every attempt on this backend now."""

    number: int
    backend: BackendId


class Ask(Message, frozen=True):
    """Say what runs on this backend."""

    number: int
    backend: BackendId


class Decided(Message, frozen=True):
    """The supervisor has heard why the worker ejected this backend: what it said last of it holds."""

    backend: BackendId


class Reopen(Message, frozen=True):
    """Open the log files again."""


class Hello(Message, frozen=True):
    """The first word of a worker; `row` is None where it has no plan yet.

    `draining`: it takes nothing new and is about to end.
    """

    slot: int
    pid: int
    row: int | None
    draining: bool = False


class Applied(Message, frozen=True):
    """Everything up to this number is in force; `count`: how many attempts a cut has ended."""

    number: int
    count: int = 0


class Reported(Message, frozen=True):
    """What one attempt said about its backend, that began `age_s` ago.

    `ejected`: the worker has taken the backend out on its own, until it is answered (`Decided`).
    """

    backend: BackendId
    evidence: Evidence
    reason: str
    age_s: float
    ejected: bool


class RunningExchange(Message, frozen=True):
    """One exchange that is in flight. `protocol`: what it has switched to, of a tunnel."""

    id: str
    method: str
    path: str
    client: str
    age_s: float
    bytes: int
    protocol: str = ""


class Running(Message, frozen=True):
    """The answer to `Ask`."""

    number: int
    exchanges: tuple[RunningExchange, ...]


class Leaving(Message, frozen=True):
    """Nobody here has asked for it, but the worker takes nothing new from now on, and will end."""


class Drained(Message, frozen=True):
    """The drain has ended; so many exchanges were cut. The worker ends with this word."""

    cut: int


Down: TypeAlias = (
    Memory | Sockets | Plan | PoolNews | Accept | LetGo | Drain | Cut | Ask | Decided | Reopen
)  # fmt: skip
Up: TypeAlias = Memory | Sockets | Hello | Applied | Reported | Running | Leaving | Drained
Word: TypeAlias = (
    Memory | Sockets | Plan | PoolNews | Accept | LetGo | Drain | Cut | Ask | Decided | Reopen
    | Hello | Applied | Reported | Running | Leaving | Drained
)  # fmt: skip

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Word] = msgspec.msgpack.Decoder(Word)


def encoded(message: msgspec.Struct) -> bytes:
    """The message as bytes."""
    return _encoder.encode(message)


def decoded(data: bytes | memoryview) -> Word:
    """The message in `data`; ValueError where it is none of ours (another version's)."""
    return _decoder.decode(data)
