"""What becomes of pools and their backends, told as events with cause and effect."""

from collections.abc import Sequence

from balancer.core.snapshot import PoolSnapshot
from balancer.supervisor.events import EventKind, EventLog
from balancer.supervisor.pool_book import PoolBook
from balancer.supervisor.reporting import KIND_OF_CHANGE
from balancer.telemetry.logs import get_logger
from healthcheck.core.health_table import Change


class PoolEvents:
    """Remembers of each pool only whether it is in trouble that has not ended yet."""

    def __init__(self, events: EventLog) -> None:
        self._events = events
        self._log = get_logger()
        self._troubled: set[str] = set()  # nobody has been left since a panic

    def tell(self, book: PoolBook, changes: Sequence[Change], before: PoolSnapshot) -> None:
        """What has changed and why, and what it does to the pool; `before`: when last told."""
        for change in changes:
            self._tell_change(book, change)
        after = book.snapshot
        if after.panic is not before.panic or (book.name in self._troubled and after.candidates):
            self.tell_panic(book)

    def tell_panic(self, book: PoolBook) -> None:
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

    def forget(self, pool: str) -> None:
        """The pool is gone."""
        self._troubled.discard(pool)

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
