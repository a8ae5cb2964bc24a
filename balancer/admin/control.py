"""What the admin API asks of an instance; the composition root of the instance implements it.

Nothing here decides: these are the words in which the API and the instance speak.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A command that is durable. `laggards` names the workers that have not confirmed it yet."""

    changed: bool
    message: str
    laggards: tuple[str, ...] = ()


class NotApplied(Exception):
    """A valid command that could not be carried out; nothing has changed. str() says why."""


class HandedOver(NotApplied):
    """A command that came too late for this process."""

    def __init__(self) -> None:
        super().__init__("another process has taken over; ask again, and it will answer")


class Events(Protocol):
    """The log of changes as the API reads it; every item is a JSON-able mapping."""

    @property
    def last(self) -> int:
        """The number of the newest change; 0 before the first."""
        ...

    def recent(self, after: int) -> Sequence[Mapping[str, object]]:
        """What is kept after number `after`, oldest first; a gap is told as `{"missed": n}`."""
        ...

    async def wait_newer(self, after: int) -> None:
        """Return when there is a change with a number above `after`."""
        ...


class Control(Protocol):
    """One running instance, as its operator sees it.

    Commands that name unknown pools and backends, or are against the rules, raise
    `balancer.core.ledger.Refused`. A coroutine returns when its change is durable and applied;
    it raises `NotApplied` when it could not be made so, and then nothing has changed.
    """

    @property
    def events(self) -> Events: ...

    def status(self, pool: str | None) -> Mapping[str, object]:
        """The contract JSON of `balancer status --json`; only the pool that is named, if any."""
        ...

    def config(self) -> str:
        """The configuration in force, as TOML: the file with the runtime changes on top."""
        ...

    async def running(self, pool: str, address: str) -> Sequence[Mapping[str, object]]:
        """What is in flight on a backend: id, method, path, client, age_s, bytes, protocol; or nothing."""
        ...

    def readiness(self) -> tuple[bool, list[str]]:
        """Whether new traffic is welcome, and the reasons (why not, or what was looked at)."""
        ...

    def metrics(self) -> bytes:
        """Prometheus text, as `balancer.telemetry.metrics.exposition` writes it."""
        ...

    def stop(self, *, now: bool) -> None:
        """Begin to stop and return at once; `now` cuts what runs. Asking again is harmless."""
        ...

    async def reload(self) -> Done:
        """Read the configuration file again and go by it.

        Returns when it is in force; `Refused` says all that is wrong with the file.
        """
        ...

    async def upgrade(self) -> Done:
        """Replace this program by the one that is installed now, without losing a connection.

        Returns when the new one serves; `NotApplied` says why it does not, and then this one goes on.
        """
        ...

    async def add(self, pool: str, address: str, weight: int | None) -> Done: ...
    async def drain(self, pool: str, address: str) -> Done: ...
    async def ready(self, pool: str, address: str) -> Done: ...
    async def maintenance(self, pool: str, address: str) -> Done: ...
    async def weight(self, pool: str, address: str, weight: int) -> Done: ...
    async def remove(self, pool: str, address: str, *, force: bool) -> Done: ...
