"""What a worker takes from outside, so that a rehearsal can give it all virtual."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from balancer.core.board import Board
from balancer.telemetry.record import ExchangeRecord
from balancer.wire.network import Network, Sock
from balancer.worker.channel import Channel
from balancer.worker.messages import LogPlan


class Lines(Protocol):
    """Where a worker's lines go."""

    def access(self, record: ExchangeRecord) -> None: ...
    def obey(self, plan: LogPlan) -> None: ...
    def reopen(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """The seams.

    `dial` connects to the supervisor, or raises OSError. `board_of` and `sock_of` make of a handle
    that a message brought what it stands for. `wall`: seconds since 1970.
    """

    slot: int
    pid: int
    network: Network
    rng: random.Random
    wall: Callable[[], float]
    dial: Callable[[], Awaitable[Channel]]
    board_of: Callable[[object], Board]
    sock_of: Callable[[object], Sock]
    lines: Lines
