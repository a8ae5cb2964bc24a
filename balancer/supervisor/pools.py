"""All pools of an instance, at the one place where news of them becomes new snapshots.

Verdicts, evidence, orders and time come in; each is put into the pool's book, told as an event, and
the snapshot that follows goes to the worker before anything else happens.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Protocol

import trio

from balancer.config.pool_settings import Pool as PoolSettings
from balancer.config.settings import Settings
from balancer.config.tls_settings import BackendTls
from balancer.core.backend import BackendId
from balancer.core.cells import Cells
from balancer.core.ledger import Ledger, LedgerEntry
from balancer.core.snapshot import PoolSnapshot
from balancer.supervisor.events import EventLog
from balancer.supervisor.joining import Joining
from balancer.supervisor.pool_book import PoolBook
from balancer.supervisor.pool_events import PoolEvents
from balancer.supervisor.probes import Checks, checks_of
from balancer.supervisor.watching import Watching
from balancer.wire.backend_tls import BackendTlsRules
from healthcheck.core.health_table import Change
from healthcheck.core.verdict import Evidence, Verdict
from healthcheck.monitor import Monitor, Pace

NEVER = float("inf")


class Audience(Protocol):
    """Whoever serves from the snapshots."""

    def apply(self, snapshot: PoolSnapshot) -> None:
        """A pool that is known is as this says from now on."""
        ...


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
        cells: Cells,
    ) -> None:
        self._cells = cells
        self._pool_events = PoolEvents(events)
        self.books: dict[str, PoolBook] = {}
        self._told: dict[str, PoolSnapshot] = {}
        self._joining: Joining | None = None
        self._tls: Mapping[BackendTls, BackendTlsRules] = {}
        for name, pool in settings.pools.items():
            self._take_in(self._new_book(name, pool, entries[name], saved))
        self._watching = Watching(verdict=self._verdict, pace=self._pace, rng=rng)
        self.changed = trio.Event()
        self._news = trio.Event()
        self._tick_scope = trio.CancelScope()
        self._audience: Audience | None = None

    @property
    def monitor(self) -> Monitor:
        """What runs the probes."""
        return self._watching.monitor

    def _new_book(
        self,
        name: str,
        pool: PoolSettings,
        entries: Sequence[LedgerEntry],
        saved: Mapping[str, object] = MappingProxyType({}),
    ) -> PoolBook:
        backends = _saved_of(saved, name)
        now = trio.current_time()
        return PoolBook(name, pool, entries, saved=backends, cell_of=self._cells.cell, now=now)

    def _take_in(self, book: PoolBook) -> None:
        self.books[book.name] = book
        self._told[book.name] = book.snapshot

    def begin(self, audience: Audience) -> None:
        """From now on the audience hears of every new snapshot, and backends are probed."""
        self._audience = audience
        for book in self.books.values():
            self._watch(book.name)
            if book.snapshot.panic:  # restored, so nothing else would tell
                self._pool_events.tell_panic(book)

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

    async def own_verdicts(self) -> None:
        """As `first_verdicts`, where only probes of our own count, and nothing restored."""
        while not all(book.knows_by_itself() for book in self.books.values()):
            await self._news.wait()

    def renew(self, ledger: Ledger, saved: Mapping[str, object]) -> None:
        """Go by what the supervisor before us has known up to now."""
        now = trio.current_time()
        for name, book in self.books.items():
            book.renew(ledger.entries(name), _saved_of(saved, name), now)
            self._watch(name)
            self._tell(book, book.tick(now))
        self._keep_cells()
        self._tick_scope.cancel()  # it goes by other ejections

    def set_entries(self, name: str, entries: Sequence[LedgerEntry]) -> None:
        """Obey what the operator says of one pool now."""
        book = self.books[name]
        now = trio.current_time()
        book.set_entries(entries, now)
        self._keep_cells()
        self._watch(name)
        # With fewer that serve, more may be out than is allowed.
        self._tell(book, book.tick(now))

    def _keep_cells(self) -> None:
        """Let the cells of backends that are gone be used again, in time."""
        self._cells.keep(view.id for book in self.books.values() for view in book.views.values())

    def dump(self) -> dict[str, object]:
        now = trio.current_time()
        return {name: book.dump(now) for name, book in self.books.items()}

    # ---- other settings

    @contextmanager
    def joining(self, settings: Settings, ledger: Ledger) -> Iterator[None]:
        """Probe what a new configuration brings, beside what serves, for the time of the block.

        The block waits (`wait_for_joining`) and then switches (`switch`). Left without a switch, all
        is as before.
        """
        assert self._joining is None, "one reload at a time"
        self._joining = Joining.of(settings, ledger, self.books, self._new_book)
        try:
            for name in self._joining.books:
                self._watch(name)
            yield
        finally:
            if self._joining is not None:
                names, self._joining = self._joining.books, None
                for name in names:
                    self._watch(name)

    async def wait_for_joining(self) -> None:
        """Return when enough is known of what is to come, for no pool to have less than now."""
        assert self._joining is not None
        while not self._joining.knows_enough(self.books):
            await self._news.wait()

    def switch(self, settings: Settings, ledger: Ledger) -> None:
        """Go by these settings from now on; what they do not change stays as it is known.

        The audience hears nothing of it: pools come and go, so it is to be told everything anew.
        """
        joining, self._joining = self._joining, None
        assert joining is not None, "a switch to what nobody has looked at"
        before, self.books = self.books, {}
        for name, pool in settings.pools.items():
            entries = ledger.entries(name)
            if name in before:
                self._carry_over(before[name], pool, entries, joining)
            else:
                book = joining.books[name]
                book.set_entries(entries, trio.current_time())
                self._take_in(book)
                self._watch(name)
                self._tell(book, joining.news_of(book), publish=False)
        for name in [name for name in before if name not in settings.pools]:
            self._watch(name)
            self._pool_events.forget(name)
            del self._told[name]
        self._keep_cells()
        self.changed.set()
        self._stir()

    def _carry_over(
        self,
        book: PoolBook,
        pool: PoolSettings,
        entries: Sequence[LedgerEntry],
        joining: Joining,
    ) -> None:
        self.books[book.name] = book
        if pool == book.settings and entries == list(book.entries.values()):
            return
        now = trio.current_time()
        changes = book.reconfigure(pool, entries, joining.books.get(book.name), now)
        self._watch(book.name)
        changes += [*joining.news_of(book), *book.tick(now)]
        self._tell(book, changes, publish=False)

    # ---- news

    def _verdict(self, backend: BackendId, verdict: Verdict) -> None:
        now = trio.current_time()
        if self._joining is not None:
            self._joining.verdict(backend, verdict, now)
        book = self.books.get(backend.pool)
        if book is not None:
            self._tell(book, book.verdict(backend.address, verdict, now))
        self._stir()

    def _pace(self, backend: BackendId) -> Pace:
        book = self.books.get(backend.pool)
        if self._joining is not None and (book is None or backend.address not in book.entries):
            book = self._joining.books.get(backend.pool)
        return Pace.STEADY if book is None else book.pace(backend.address)

    def evidence(self, backend: BackendId, evidence: Evidence, reason: str, began: float) -> None:
        """News of one attempt."""
        book = self.books.get(backend.pool)
        if book is not None:  # else the pool has gone, and its last attempts end
            now = trio.current_time()
            self._tell(book, book.evidence(backend.address, evidence, reason, now, began))

    def _tell(self, book: PoolBook, changes: Sequence[Change], *, publish: bool = True) -> None:
        """Publish the book's snapshot, and say what has changed and why."""
        before, after = self._told[book.name], book.snapshot
        self._told[book.name] = after
        if publish and self._audience is not None and after is not before:
            self._audience.apply(after)
        self._pool_events.tell(book, changes, before)
        if changes:
            self.changed.set()
        if changes or after is not before:  # nothing else brings the next event nearer
            self._tick_scope.deadline = min(self._tick_scope.deadline, self._next_event())
        self._stir()

    def _stir(self) -> None:
        """Wake whoever waits until enough is known."""
        self._news.set()
        self._news = trio.Event()

    def know(self, tls: Mapping[BackendTls, BackendTlsRules]) -> None:
        """Probe by what the files of these settings hold now, from the next probe on."""
        self._tls = {**self._tls, **tls}
        if self._audience is not None:
            for name in self.books:
                self._watch(name)

    def _watch(self, name: str) -> None:
        """Probe what is to be probed of the pool, serving or to come, and nothing else of it."""
        wanted: dict[str, Checks] = {}
        to_come = None if self._joining is None else self._joining.books.get(name)
        for book in (to_come, self.books.get(name)):
            if book is None:
                continue
            tls = None if book.settings.tls is None else self._tls.get(book.settings.tls)
            checks = checks_of(book.settings, tls)
            if checks is not None:
                wanted |= {a: checks for a, entry in book.entries.items() if entry.admin.probed}
        self._watching.watch(name, wanted)


def _saved_of(saved: Mapping[str, object], name: str) -> dict[str, Mapping[str, object]]:
    """What a state document says of one pool; nothing where it is not of the right shape."""
    pool = saved.get(name)
    backends = pool.get("backends") if isinstance(pool, Mapping) else None
    if not isinstance(backends, Mapping):
        return {}
    return {str(k): v for k, v in backends.items() if isinstance(v, Mapping)}
