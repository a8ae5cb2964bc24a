"""The log of changes: what happened, why, and what follows, one sentence each.

Keeps the newest changes and no more. A follower is a number, not a queue, so a slow one costs
nothing: it is told how many changes it missed.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

import msgspec
import trio

from balancer.telemetry.logs import get_logger

# A night of flapping fits; beyond that the log file is the archive.
KEPT = 4096


class EventKind(StrEnum):
    """Every kind of change there is."""

    INSTANCE_STARTED = "instance.started"
    INSTANCE_STOPPING = "instance.stopping"
    INSTANCE_STOPPED = "instance.stopped"
    INSTANCE_RELOADED = "instance.reloaded"
    RELOAD_FAILED = "instance.not_reloaded"
    INSTANCE_HANDED_OVER = "instance.handed_over"
    UPGRADE_FAILED = "instance.not_upgraded"
    LISTENER_OPEN = "listener.open"
    LISTENER_CLOSED = "listener.closed"
    CERTIFICATES_LOADED = "certificates.loaded"
    CERTIFICATES_KEPT = "certificates.not_loaded"
    CERTIFICATE_EXPIRES = "certificate.expires"
    BACKEND_ADDED = "backend.added"
    BACKEND_REMOVED = "backend.removed"
    BACKEND_DRAINING = "backend.draining"
    BACKEND_READY = "backend.ready"
    BACKEND_MAINTENANCE = "backend.maintenance"
    BACKEND_WEIGHT = "backend.weight"
    BACKEND_HEALTHY = "backend.healthy"
    BACKEND_UNHEALTHY = "backend.unhealthy"
    BACKEND_EJECTED = "backend.ejected"
    BACKEND_ON_TRIAL = "backend.on_trial"
    BACKEND_RETURNED = "backend.returned"
    POOL_ADDED = "pool.added"
    POOL_CHANGED = "pool.changed"
    POOL_REMOVED = "pool.removed"
    WORKER_LOST = "worker.lost"
    WORKER_LOOPS = "worker.loops"
    WORKER_SERVES = "worker.serves"
    POOL_PANIC = "pool.panic"
    POOL_RECOVERED = "pool.recovered"


# What follows from a change, where whoever reports it does not know better.
EFFECT: Mapping[EventKind, str] = {
    EventKind.INSTANCE_STARTED: "serves from now on",
    EventKind.INSTANCE_STOPPING: "is not ready for new traffic; what runs may finish",
    EventKind.INSTANCE_STOPPED: "serves no more",
    EventKind.INSTANCE_RELOADED: "all of it is in force",
    EventKind.RELOAD_FAILED: "goes on as before",
    EventKind.INSTANCE_HANDED_OVER: "finishes what it runs, and ends",
    EventKind.UPGRADE_FAILED: "goes on as before",
    EventKind.LISTENER_OPEN: "accepts connections",
    EventKind.LISTENER_CLOSED: "accepts no more connections",
    EventKind.CERTIFICATES_LOADED: "new connections are given them",
    EventKind.CERTIFICATES_KEPT: "those that were loaded before stay in use",
    EventKind.CERTIFICATE_EXPIRES: "nobody takes it once it has expired",
    EventKind.BACKEND_ADDED: "takes requests as soon as it is known to be healthy",
    EventKind.BACKEND_REMOVED: "is gone from the pool",
    EventKind.BACKEND_DRAINING: "takes no new requests; what runs may finish",
    EventKind.BACKEND_READY: "takes requests when it is healthy",
    EventKind.BACKEND_MAINTENANCE: "takes no requests and is not probed",
    EventKind.BACKEND_WEIGHT: "its share of new requests changes",
    EventKind.BACKEND_HEALTHY: "takes requests",
    EventKind.BACKEND_UNHEALTHY: "takes no new requests",
    EventKind.BACKEND_EJECTED: "takes no new requests for a time",
    EventKind.BACKEND_ON_TRIAL: "takes one request at a time until one succeeds",
    EventKind.BACKEND_RETURNED: "takes requests again",
    EventKind.POOL_ADDED: "takes the requests that routes send to it",
    EventKind.POOL_CHANGED: "goes by it from now on",
    EventKind.POOL_REMOVED: "takes no new requests; what runs may finish",
    EventKind.WORKER_LOST: "its connections are lost",
    EventKind.WORKER_LOOPS: "its connections are lost",
    EventKind.WORKER_SERVES: "accepts at its own sockets",
    EventKind.POOL_PANIC: "health and ejections are ignored",
    EventKind.POOL_RECOVERED: "health and ejections count again",
}

_ALARMING = frozenset(
    {
        EventKind.RELOAD_FAILED,
        EventKind.UPGRADE_FAILED,
        EventKind.CERTIFICATES_KEPT,
        EventKind.CERTIFICATE_EXPIRES,
        EventKind.BACKEND_UNHEALTHY,
        EventKind.BACKEND_EJECTED,
        EventKind.WORKER_LOST,
        EventKind.WORKER_LOOPS,
        EventKind.POOL_PANIC,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One change. `at` is wall time as text; `sentence` is the whole of it for a person."""

    seq: int
    at: str
    kind: EventKind
    pool: str | None
    backend: str | None
    cause: str
    effect: str
    sentence: str


class EventLog:
    """Numbers changes, keeps the newest, logs each, and wakes those who follow.

    `wall` gives seconds since 1970; a rehearsal passes its virtual time. Not for several threads.
    """

    def __init__(self, *, wall: Callable[[], float], kept: int = KEPT) -> None:
        self._wall = wall
        self._events: deque[Event] = deque(maxlen=kept)
        self._last = 0
        self._added = trio.Event()
        self._log = get_logger()

    @property
    def last(self) -> int:
        """The number of the newest change; 0 before the first."""
        return self._last

    def add(
        self,
        kind: EventKind | str,
        *,
        cause: str,
        effect: str | None = None,
        pool: str | None = None,
        backend: str | None = None,
    ) -> Event:
        """Record one change: `cause` and `effect` are parts of a sentence, without a full stop."""
        kind = EventKind(kind)
        effect = EFFECT[kind] if effect is None else effect
        subject = " ".join(word for word in (pool, backend) if word)
        event = Event(
            seq=self._last + 1,
            at=_iso(self._wall()),
            kind=kind,
            pool=pool,
            backend=backend,
            cause=cause,
            effect=effect,
            sentence=f"{subject}: {cause}; {effect}" if subject else f"{cause}; {effect}",
        )
        self._events.append(event)
        self._last = event.seq
        self._write(event)
        self._added.set()
        self._added = trio.Event()
        return event

    def since(self, seq: int) -> tuple[int, list[Event]]:
        """How many changes after number `seq` are no longer kept, and those that are."""
        newer = [event for event in self._events if event.seq > seq]
        return max(0, self._last - max(seq, 0) - len(newer)), newer

    def recent(self, after: int) -> Sequence[Mapping[str, object]]:
        """As `since`, in JSON-able form; a gap is told first, as `{"missed": n}`."""
        missed, newer = self.since(after)
        gap: list[Mapping[str, object]] = [{"missed": missed}] if missed else []
        return gap + [asdict(event) for event in newer]

    def go_on_from(self, last: int, kept: Sequence[Mapping[str, object]]) -> None:
        """Put the changes of another log, whose newest has number `last`, before our own.

        Ours get new numbers, so nobody may have read them yet. What makes no sense is left out.
        """
        before = [event for event in map(_read, kept) if event is not None]
        ours = [replace(event, seq=event.seq + last) for event in self._events]
        self._events.clear()
        self._events.extend([*before, *ours])
        self._last += last

    async def wait_newer(self, after: int) -> None:
        """Return when there is a change with a number above `after`."""
        while self._last <= after:
            await self._added.wait()

    def _write(self, event: Event) -> None:
        say = self._log.warning if event.kind in _ALARMING else self._log.info
        facts = {"pool": event.pool, "backend": event.backend}
        known = {name: value for name, value in facts.items() if value is not None}
        say(event.kind.value, **known, because=event.cause, effect=event.effect)


def _read(event: Mapping[str, object]) -> Event | None:
    """An event as `recent` has written it, perhaps in another version."""
    try:
        return msgspec.convert(event, Event)
    except msgspec.ValidationError:
        return None


def _iso(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
