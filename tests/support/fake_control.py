"""An instance without traffic: it obeys the commands, and the test says what runs on a backend."""

from collections.abc import Mapping, Sequence

from balancer.admin.control import Done, HandedOver, NotApplied
from balancer.core.ledger import Refused
from balancer.core.wording import shown
from balancer.supervisor.events import EventKind, EventLog
from balancer.telemetry.metrics import Figures, exposition

A = "127.0.0.1:9001"
B = "127.0.0.1:9002"


def backend(address: str, **changes: object) -> dict[str, object]:
    """A healthy backend's row of the contract JSON."""
    row: dict[str, object] = {
        "address": address,
        "weight": 1,
        "admin": "ready",
        "health": "healthy",
        "ejected": False,
        "on_trial": False,
        "available": True,
        "reason": "2 of 2 probes passed",
        "since": "2026-01-01T00:00:00Z",
        "in_flight": 0,
        "requests": 1200,
        "failures": 0,
        "origin": "file",
    }
    return {**row, **changes}


def exchange(number: int, path: str = "/big", age_s: float = 12.0) -> dict[str, object]:
    """One exchange in flight."""
    return {
        "id": f"r{number}",
        "method": "GET",
        "path": path,
        "client": "127.0.0.1:50000",
        "age_s": age_s,
        "bytes": 4096,
    }


class FakeControl:
    """A `Control` with one pool, `web`; its fields are for the test to set.

    `looks`: how often somebody wanted to know of events, or what runs.
    """

    def __init__(self) -> None:
        self.log = EventLog(wall=lambda: 0.0)
        self.rows = {A: backend(A), B: backend(B)}
        self.in_flight: dict[str, list[dict[str, object]]] = {}
        self.panic = False
        self.is_ready = True
        self.laggards: tuple[str, ...] = ()
        self.disk_full = False
        self.crash = False
        self.stopped: bool | None = None
        self.wrong_with_file = ""
        self.too_late = 0
        self.upgrade_fails = False
        self.looks = 0

    @property
    def events(self) -> EventLog:
        self.looks += 1
        return self.log

    def status(self, pool: str | None) -> Mapping[str, object]:
        if self.crash:
            raise RuntimeError("a bug")
        rows = list(self.rows.values())
        available = sum(1 for row in rows if row["available"])
        entry = {
            "policy": "least-connections",
            "panic": self.panic,
            "available": available,
            "backends": rows,
        }
        pools = {"web": entry} if pool in (None, "web") else {}
        return {
            "instance": "test",
            "ready": self.is_ready,
            "started_s": 0.0,
            "pools": pools,
        }

    def config(self) -> str:
        return 'workers = "auto"\n'

    async def running(self, pool: str, address: str) -> Sequence[Mapping[str, object]]:
        self.looks += 1
        return self.in_flight.get(address, [])

    def readiness(self) -> tuple[bool, list[str]]:
        return (True, ["web: 2 available"]) if self.is_ready else (False, ["stopping"])

    def metrics(self) -> bytes:
        figures: Figures = {"pools": {}, "ready": self.is_ready}
        return exposition(figures)

    def stop(self, *, now: bool) -> None:
        self.stopped = now

    async def reload(self) -> Done:
        if self.wrong_with_file:
            raise Refused(self.wrong_with_file)
        return self._done("reloaded edge.toml: pool web: 1 backend added")

    async def upgrade(self) -> Done:
        if self.upgrade_fails:
            raise NotApplied("the new program did not come up; the old one goes on")
        return self._done("upgraded: process 2 serves")

    async def add(self, pool: str, address: str, weight: int | None) -> Done:
        self._check_pool(pool)
        if address in self.rows:
            return self._done(f"{pool} {address} is there already", changed=False)
        self.rows[address] = backend(address, weight=weight or 1, origin="cli", health="unknown")
        return self._done(f"added {pool} {address}")

    async def drain(self, pool: str, address: str) -> Done:
        return self._admin(pool, address, "draining")

    async def ready(self, pool: str, address: str) -> Done:
        return self._admin(pool, address, "ready")

    async def maintenance(self, pool: str, address: str) -> Done:
        return self._admin(pool, address, "maintenance")

    async def weight(self, pool: str, address: str, weight: int) -> Done:
        self._row(pool, address)["weight"] = weight
        return self._done(f"{pool} {address} has weight {weight}")

    async def remove(self, pool: str, address: str, *, force: bool) -> Done:
        self._row(pool, address)
        if self.in_flight.get(address) and not force:
            raise Refused(f"{pool} {address} has work in flight; drain it first, or give --force")
        del self.rows[address]
        return self._done(f"removed {pool} {address}")

    def _admin(self, pool: str, address: str, state: str) -> Done:
        row = self._row(pool, address)
        changed = row["admin"] != state
        row["admin"] = state
        if changed:
            kind = EventKind(f"backend.{state}")
            self.log.add(kind, cause="the operator said so", pool=pool, backend=address)
        return self._done(f"{pool} {address} is {state}", changed=changed)

    def _done(self, message: str, *, changed: bool = True) -> Done:
        if self.too_late:
            self.too_late -= 1
            raise HandedOver
        if self.disk_full:
            raise NotApplied("cannot write the state file: no space left; nothing was changed")
        return Done(changed=changed, message=message, laggards=self.laggards)

    def _check_pool(self, pool: str) -> None:
        if pool != "web":
            raise Refused(f"there is no pool {shown(pool)}; did you mean 'web'?")

    def _row(self, pool: str, address: str) -> dict[str, object]:
        self._check_pool(pool)
        if address not in self.rows:
            raise Refused(f"there is no backend {shown(address)} in {pool}; did you mean '{A}'?")
        return self.rows[address]
