"""The ways between hosts and what is wrong with them.

Decides how long a packet travels and whether it arrives at all. A connection crosses several
links (both hosts' cables, the pair's link, the port's link): delays add up, the first fault counts.
"""

import random
from collections.abc import Iterator
from enum import Enum
from typing import Protocol

SYN_RETRIES_S = (1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 11.0, 19.0, 35.0, 67.0)
"""When Linux sends a SYN again, counted from connect() (6 retries after 4 linear ones)."""

SYN_GIVES_UP_S = 131.0
"""When connect() ends with ETIMEDOUT."""

NO_ROUTE_S = 3.0
"""How long Linux looks for a neighbour that is not there before EHOSTUNREACH."""

FIRST_RESEND_S = 0.2
LONGEST_RESEND_S = 120.0
DATA_GIVES_UP_S = 924.6
"""tcp_retries2 = 15: unanswered data ends the connection with ETIMEDOUT after this."""


class Fault(Enum):
    """What a link does to packets."""

    NONE = "none"
    REFUSES = "refuses"  # a connect is answered by RST; open connections are untouched
    HANGS = "hangs"  # a connect is never answered; open connections are untouched
    RESETS = "resets"  # connects succeed; the first bytes of any connection cut it with RST
    SILENT = "silent"  # connects succeed; nothing passes afterwards (half-open)
    PARTITIONED = "partitioned"  # nothing passes either way; what was sent comes after it heals


class Crossing(Protocol):
    """What a link knows of the connections that use it."""

    def road_changed(self) -> None: ...
    def reset_both(self) -> None: ...


class Link:
    """A stretch of network; every attribute may change while connections use it."""

    def __init__(self, name: str, *, latency_s: float = 0.0) -> None:
        self.name = name
        self.latency_s = latency_s
        self.jitter_s = 0.0
        self._fault = Fault.NONE
        self._crossings: dict[Crossing, None] = {}

    @property
    def fault(self) -> Fault:
        """What is wrong now; setting NONE heals, and lost packets are sent again in time."""
        return self._fault

    @fault.setter
    def fault(self, fault: Fault) -> None:
        self._fault = fault
        for crossing in tuple(self._crossings):
            crossing.road_changed()

    def reset_connections(self) -> None:
        """Cut every open connection: both ends receive RST, as from a firewall that lost its state."""
        for crossing in tuple(self._crossings):
            crossing.reset_both()

    def add(self, crossing: Crossing) -> None:
        self._crossings[crossing] = None

    def discard(self, crossing: Crossing) -> None:
        self._crossings.pop(crossing, None)

    def __repr__(self) -> str:
        return f"<Link {self.name} {self.latency_s} s {self._fault.value}>"


class Road:
    """The links that one connection crosses, as one."""

    __slots__ = ("_links", "_rng")

    def __init__(self, links: tuple[Link, ...], rng: random.Random) -> None:
        self._links = links
        self._rng = rng

    def delay(self) -> float:
        """How long the next packet travels, one way."""
        total = 0.0
        for link in self._links:
            total += link.latency_s
            if link.jitter_s:
                total += self._rng.uniform(0.0, link.jitter_s)
        return total

    def fault(self) -> Fault:
        """The first fault on the way."""
        for link in self._links:
            if link.fault is not Fault.NONE:
                return link.fault
        return Fault.NONE

    def loses_connects(self) -> bool:
        return self.fault() in {Fault.HANGS, Fault.PARTITIONED}

    def loses_data(self) -> bool:
        return self.fault() in {Fault.SILENT, Fault.PARTITIONED}

    def __iter__(self) -> Iterator[Link]:
        return iter(self._links)


def next_resend(first_sent: float, now: float) -> float:
    """When TCP sends again what was first sent at `first_sent`: doubling pauses, capped."""
    when, pause = first_sent, FIRST_RESEND_S
    while when < now or when == first_sent:
        when += pause
        pause = min(pause * 2, LONGEST_RESEND_S)
    return when
