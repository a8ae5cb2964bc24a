"""Where an instance's workers come from: the seam between real processes and a rehearsal's tasks."""

from typing import Protocol

from balancer.core.board import Board
from balancer.supervisor.slots import Process
from balancer.worker.channel import Channel


class Crew(Protocol):
    """Starts workers, and hears of those who dial. `memory`: the board as a handle to send."""

    board: Board
    memory: object

    async def launch(self, slot: int) -> Process:
        """Start a worker; OSError where that is not possible."""
        ...

    def lives(self, pid: int) -> bool:
        """Whether that process has not ended."""
        ...

    async def next_channel(self) -> Channel:
        """The next channel that a worker dials."""
        ...
