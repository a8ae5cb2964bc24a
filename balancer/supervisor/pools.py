"""All pools of an instance, at the one place where news of them becomes new snapshots.

Verdicts, evidence, orders and time come in; each is put into the pool's book, told as an event, and
the snapshot that follows goes to the worker before anything else happens.
"""

import random
from collections.abc import Mapping, Sequence

import structlog
import trio

from balancer.config.settings import Settings
from balancer.core.backend import BackendId
from balancer.core.ledger import LedgerEntry
from balancer.core.policies import make_policy
from balancer.proxy.pool import Pool, PoolLimits
from balancer.supervisor.events import EventKind, EventLog
from balancer.supervisor.pool_book import PoolBook
from balancer.supervisor.probes import plan_of, probe_of
from balancer.supervisor.reporting import KIND_OF_CHANGE
from balancer.worker.worker import Worker
from healthcheck.core.health_table import Change
from healthcheck.core.verdict import Evidence, Verdict
from healthcheck.monitor import Monitor, Pace

NEVER = float("inf")


class Pools:
    """The books of all pools and what hangs on them: monitor, events, worker."""

    def __init__(
        self,
        settings: Settings,
        entries: Mapping[str, Sequence[LedgerEntry]],
        saved: Mapping[str, object],
        *,
        events: EventLog,
        rng: random.Random,
    ) -> None:
        now = trio.current_time()
        self._events = events
        self._log = structlog.get_logger()
        self.books: dict[str, PoolBook] = {}
        self.serving: dict[str, Pool] = {}
        for name, pool in settings.pools.items():
            backends = _saved_of(saved, name)
            policy = make_policy(pool.policy, rng)
            book = PoolBook(name, pool, entries[name], policy=policy, saved=backends, now=now)
            self.books[name] = book
            self.serving[name] = Pool(book.snapshot, policy, _limits(book), self._evidence)
        self._troubled: set[str] = set()  # nobody has been left since a panic
        self._targets: dict[str, BackendId] = {}
        self.monitor = Monitor(on_verdict=self._verdict, pace=self._pace, rng=rng)
        self.changed = trio.Event()
        self._news = trio.Event()
        self._tick_scope = trio.CancelScope()
        self._worker: Worker | None = None

    def begin(self, worker: Worker) -> None:
        """From now on the worker hears of every new snapshot, and backends are probed."""
        self._worker = worker
        for book in self.books.values():
            self._watch(book)
            if book.snapshot.panic:  # restored, so nothing else would tell
                self._tell_panic(book)

    async def keep_time(self) -> None:
        """End ejections when their time is over; until cancelled."""
        while True:
            now = trio.current_time()
            for book in self.books.values():
                self._tell(book, book.tick(now))
            with trio.CancelScope(deadline=self._next_event()) as self._tick_scope:
                await trio.sleep_forever()

    def _next_event(self) -> float:
        events = [book.next_event() for book in self.books.values()]
        return min((event for event in events if event is not None), default=NEVER)

    async def first_verdicts(self) -> None:
        """Return when every pool has a first PASS, or all its first verdicts."""
        while not all(book.knows_enough() for book in self.books.values()):
            await self._news.wait()

    def set_entries(self, name: str, entries: Sequence[LedgerEntry]) -> None:
        """Obey what the operator says of one pool now."""
        book = self.books[name]
        now = trio.current_time()
        book.set_entries(entries, now)
        self._watch(book)
        # With fewer that serve, more may be out than is allowed.
        self._tell(book, book.tick(now))

    def dump(self) -> dict[str, object]:
        now = trio.current_time()
        return {name: book.dump(now) for name, book in self.books.items()}

    def _verdict(self, target: str, verdict: Verdict) -> None:
        backend = self._targets.get(target)
        if backend is not None:
            book = self.books[backend.pool]
            self._tell(book, book.verdict(backend.address, verdict, trio.current_time()))

    def _evidence(
        self, backend: BackendId, evidence: Evidence, reason: str, began: float, ejected: bool
    ) -> None:
        """News of one attempt; a worker that has `ejected` the backend waits for a word about it."""
        book = self.books[backend.pool]
        now = trio.current_time()
        self._tell(book, book.evidence(backend.address, evidence, reason, now, began))
        if ejected and self._worker is not None:
            self._worker.apply(book.snapshot)

    def _pace(self, target: str) -> Pace:
        backend = self._targets[target]
        return self.books[backend.pool].pace(backend.address)

    def _tell(self, book: PoolBook, changes: Sequence[Change]) -> None:
        """Publish the book's snapshot, and say what has changed and why."""
        before = self.serving[book.name].snapshot
        after = book.snapshot
        if self._worker is not None and after is not before:
            self._worker.apply(after)
        for change in changes:
            self._tell_change(book, change)
        if after.panic is not before.panic or (book.name in self._troubled and after.candidates):
            self._tell_panic(book)
        if changes:
            self.changed.set()
        if changes or after is not before:  # nothing else brings the next event nearer
            self._tick_scope.deadline = min(self._tick_scope.deadline, self._next_event())
        self._news.set()
        self._news = trio.Event()

    def _tell_panic(self, book: PoolBook) -> None:
        """That the pool is in panic, or has recovered; not the latter when nobody is left in it."""
        snapshot = book.snapshot
        kind, effect = EventKind.POOL_PANIC, None
        self._troubled.discard(book.name)
        if not snapshot.candidates:
            self._troubled.add(book.name)
            effect = "nobody is left to take requests"
        elif not snapshot.panic:
            kind = EventKind.POOL_RECOVERED
        self._events.add(kind, pool=book.name, cause=snapshot.numbers, effect=effect)

    def _tell_change(self, book: PoolBook, change: Change) -> None:
        kind = KIND_OF_CHANGE.get((change.kind, change.new))
        if kind is None or change.old == change.new:
            self._log.warning(
                "backend.not_ejected", pool=book.name, backend=change.target, because=change.reason
            )
            return
        snapshot, view = book.snapshot, book.views[change.target]
        self._events.add(
            kind,
            pool=book.name,
            backend=change.target,
            cause=change.reason,
            effect=f"{snapshot.explain(view).partition(':')[0]}; {snapshot.summary}",
        )

    def _watch(self, book: PoolBook) -> None:
        """Probe what is to be probed, and nothing else of this pool."""
        health = book.settings.health
        wanted: dict[str, BackendId] = {}
        for address, entry in book.entries.items():
            if health is not None and entry.admin.probed:
                wanted[f"{book.name} {address}"] = BackendId(book.name, address)
        known = {key for key, backend in self._targets.items() if backend.pool == book.name}
        for key in known - wanted.keys():
            del self._targets[key]
            self.monitor.forget(key)
        for key in [key for key in wanted if key not in known]:
            assert health is not None
            self._targets[key] = wanted[key]
            self.monitor.watch(key, plan_of(health), probe_of(health, wanted[key].address))


def _limits(book: PoolBook) -> PoolLimits:
    settings = book.settings
    return PoolLimits(
        connect_s=settings.timeouts.connect,
        response_s=settings.timeouts.response,
        idle_s=settings.timeouts.idle,
        idle_max=settings.connections.idle_max,
        idle_timeout_s=settings.connections.idle_timeout,
        age_max_s=settings.connections.max_age,
        requests_max=settings.connections.max_requests,
        retry_after_s=max(1, round(settings.health.interval)) if settings.health else 5,
    )


def _saved_of(saved: Mapping[str, object], name: str) -> dict[str, Mapping[str, object]]:
    """What a state document says of one pool; nothing where it is not of the right shape."""
    pool = saved.get(name)
    backends = pool.get("backends") if isinstance(pool, Mapping) else None
    if not isinstance(backends, Mapping):
        return {}
    return {str(k): v for k, v in backends.items() if isinstance(v, Mapping)}
