"""What an instance shows of itself: status, running exchanges, and the words for changes."""

from collections.abc import Mapping
from datetime import UTC, datetime

from balancer.core.backend import BackendId, BackendView
from balancer.core.board import CONNECTIONS_AT, CRASHES_AT, EXCHANGES_AT, Board, Counts
from balancer.supervisor.events import EventKind
from balancer.supervisor.pool_book import PoolBook
from balancer.supervisor.slots import Slot

# The kind of event that a change of a health table is; an ejection that was not allowed has none.
KIND_OF_CHANGE: Mapping[tuple[str, str], EventKind] = {
    ("health", "healthy"): EventKind.BACKEND_HEALTHY,
    ("health", "unhealthy"): EventKind.BACKEND_UNHEALTHY,
    ("ejection", "ejected"): EventKind.BACKEND_EJECTED,
    ("ejection", "on_trial"): EventKind.BACKEND_ON_TRIAL,
    ("ejection", "serving"): EventKind.BACKEND_RETURNED,
}


def pool_status(
    book: PoolBook, counts: Mapping[BackendId, Counts], now: float, wall: float
) -> dict[str, object]:
    """One pool of the contract's status."""
    snapshot = book.snapshot
    return {
        "policy": snapshot.policy,
        "panic": snapshot.panic,
        "available": snapshot.available,
        "summary": snapshot.summary,
        "backends": [
            _backend_status(book, counts[view.id], view, now, wall) for view in book.views.values()
        ],
    }


def _backend_status(
    book: PoolBook, counts: Counts, view: BackendView, now: float, wall: float
) -> dict[str, object]:
    address = view.id.address
    target = book.view(address)
    until = target.ejected_until
    return {
        "address": address,
        "weight": view.weight,
        "admin": view.admin.value,
        "health": view.health.value,
        "ejected": view.ejected,
        "on_trial": view.on_trial,
        "available": view.available,
        "reason": view.reason,
        "explanation": book.snapshot.explain(view),
        "since": iso(wall - (now - view.since)),
        "in_flight": counts.in_flight,
        "requests": counts.requests,
        "failures": counts.failures,
        "streak": target.streak,
        "ejected_for_s": None if until is None else round(max(0.0, until - now), 3),
        "restored": target.restored,
        "origin": book.entries[address].origin,
        "overridden": list(book.entries[address].overridden),
    }


def worker_status(slot: Slot, board: Board) -> dict[str, object]:
    """One worker, or the place of one."""
    head = board.parts(slot.row)[0]
    return {
        "worker": slot.number,
        "pid": None if slot.process is None else slot.process.pid,
        "state": slot.state,
        "connections": head[CONNECTIONS_AT],
        "exchanges": head[EXCHANGES_AT],
        "connection_crashes": head[CRASHES_AT],
        "starts_in_a_row": slot.restarts.in_a_row,
    }


def iso(wall: float) -> str:
    """Seconds since 1970 as the contract writes times."""
    return f"{datetime.fromtimestamp(wall, UTC).isoformat(timespec='seconds')[:19]}Z"
