"""How a probe looks at one target: over HTTP, or by connecting."""

from collections.abc import Awaitable
from typing import Protocol

from healthcheck.core.verdict import Verdict


class Probe(Protocol):
    """One check of one target, bound to its address.

    Has no deadline of its own: the monitor cancels it when its time is over. Expected failures are
    verdicts; what is raised is a fault of the checker, and void.
    """

    def __call__(self) -> Awaitable[Verdict]: ...
