"""Backends that are looked at before they belong: those that a new configuration brings.

They are probed beside the pools that serve, in books of their own. Decides when enough is known of
them for a switch that leaves no pool with less than it had.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from balancer.config.pool_settings import Pool as PoolSettings
from balancer.config.settings import Settings
from balancer.core.backend import BackendId
from balancer.core.ledger import Ledger, LedgerEntry
from balancer.supervisor.pool_book import PoolBook
from healthcheck.core.health_table import Change
from healthcheck.core.verdict import Verdict

MakeBook = Callable[[str, PoolSettings, Sequence[LedgerEntry]], PoolBook]


@dataclass(frozen=True, slots=True, kw_only=True)
class Joining:
    """The books of what is to come, by pool; `staying`: who of the pool that serves will remain."""

    books: Mapping[str, PoolBook]
    staying: Mapping[str, frozenset[str]]
    _news: dict[str, list[Change]] = field(default_factory=dict)

    @classmethod
    def of(
        cls, settings: Settings, ledger: Ledger, serving: Mapping[str, PoolBook], book: MakeBook
    ) -> "Joining":
        """What `settings` and `ledger` bring that `serving` does not have."""
        books: dict[str, PoolBook] = {}
        staying: dict[str, frozenset[str]] = {}
        for name, pool in settings.pools.items():
            known = serving[name].entries if name in serving else {}
            entries = ledger.entries(name)
            fresh = [entry for entry in entries if entry.address not in known]
            staying[name] = frozenset(entry.address for entry in entries) & known.keys()
            if fresh or name not in serving:
                books[name] = book(name, pool, fresh)
        return cls(books=books, staying=staying)

    def verdict(self, backend: BackendId, verdict: Verdict, now: float) -> None:
        """A probe has ended, perhaps of one that is to come; what it changes is told later."""
        book = self.books.get(backend.pool)
        if book is not None:
            changes = book.verdict(backend.address, verdict, now)
            self._news.setdefault(backend.pool, []).extend(changes)

    def news_of(self, book: PoolBook) -> list[Change]:
        """What has been learnt of backends that now belong to this book."""
        news = self._news.get(book.name, ())
        return [change for change in news if change.target in book.entries]

    def knows_enough(self, serving: Mapping[str, PoolBook]) -> bool:
        """Whether every pool would have as many available as now, and one, or has all verdicts."""
        return all(self._enough(name, serving.get(name)) for name in self.books)

    def _enough(self, name: str, serving: PoolBook | None) -> bool:
        book = self.books[name]
        if not book.snapshot.pending:
            return True
        if serving is None:
            return book.snapshot.available > 0
        stays = self.staying[name]
        kept = sum(view.available for a, view in serving.views.items() if a in stays)
        return kept + book.snapshot.available >= max(1, serving.snapshot.available)
