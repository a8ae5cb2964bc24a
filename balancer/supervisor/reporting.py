"""What an instance shows of itself: status, running exchanges, and the words for changes."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import formatdate

from balancer.core.backend import BackendView
from balancer.core.tally import Tally
from balancer.proxy.pool import Pool
from balancer.proxy.service import Running
from balancer.supervisor.events import EventKind
from balancer.supervisor.pool_book import PoolBook

# The kind of event that a change of a health table is; an ejection that was not allowed has none.
KIND_OF_CHANGE: Mapping[tuple[str, str], EventKind] = {
    ("health", "healthy"): EventKind.BACKEND_HEALTHY,
    ("health", "unhealthy"): EventKind.BACKEND_UNHEALTHY,
    ("ejection", "ejected"): EventKind.BACKEND_EJECTED,
    ("ejection", "on_trial"): EventKind.BACKEND_ON_TRIAL,
    ("ejection", "serving"): EventKind.BACKEND_RETURNED,
}


def pool_status(book: PoolBook, pool: Pool, now: float, wall: float) -> dict[str, object]:
    """One pool of the contract's status."""
    snapshot = book.snapshot
    return {
        "policy": snapshot.policy,
        "panic": snapshot.panic,
        "available": snapshot.available,
        "summary": snapshot.summary,
        "backends": [_backend_status(book, pool, view, now, wall) for view in book.views.values()],
    }


def _backend_status(
    book: PoolBook, pool: Pool, view: BackendView, now: float, wall: float
) -> dict[str, object]:
    address = view.id.address
    target = book.view(address)
    tally = pool.tallies.get(address, Tally())
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
        "in_flight": pool.in_flight.get(address, 0),
        "requests": tally.requests,
        "failures": tally.failures,
        "streak": target.streak,
        "ejected_for_s": None if until is None else round(max(0.0, until - now), 3),
        "restored": target.restored,
        "origin": book.entries[address].origin,
        "overridden": list(book.entries[address].overridden),
    }


def running_status(exchange: Running, now: float) -> dict[str, object]:
    """One exchange that is in flight."""
    record = exchange.record
    return {
        "id": record.request_id,
        "method": record.method,
        "path": record.target,
        "client": record.client,
        "age_s": round(now - record.began, 3),
        "bytes": record.bytes_down,
    }


def iso(wall: float) -> str:
    """Seconds since 1970 as the contract writes times."""
    return f"{datetime.fromtimestamp(wall, UTC).isoformat(timespec='seconds')[:19]}Z"


def http_date(wall: float) -> bytes:
    """RFC 9110 5.6.7."""
    return formatdate(wall, usegmt=True).encode("ascii")
