"""What is written down of an exchange while it runs: the source of its access line."""

from dataclasses import dataclass, field


# Made for every exchange: arguments by position cost half of what they cost by name.
@dataclass(slots=True)
class AttemptRecord:
    """One attempt; times in seconds on the trio clock."""

    backend: str
    began: float
    reused: bool = False
    connected: float | None = None
    ended: float = 0.0
    outcome: str = "running"


@dataclass(slots=True)
class ExchangeRecord:
    """One exchange; times in seconds on the trio clock, sizes in bytes of content on our side."""

    number: int
    request_id: str
    client: str
    began: float
    head_at: float
    tls: str = ""
    method: str = ""
    target: str = ""
    host: str = ""
    minor: int = 1
    pool: str = ""
    status: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    answer_at: float | None = None
    ended: float = 0.0
    fault: str = ""
    attempts: list[AttemptRecord] = field(default_factory=list)

    def count_up(self, passed: int) -> None:
        """So many bytes more went to the backend."""
        self.bytes_up += passed

    def count_down(self, passed: int) -> None:
        """So many bytes more went to the client."""
        self.bytes_down += passed
