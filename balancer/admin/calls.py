"""What each operation of the API asks of a `Control`, and how it answers.

Gets a call whose inputs are checked already. Decides nothing about pools, and knows neither paths
nor methods.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from balancer.admin.control import Control, Done, Events
from balancer.admin.messages import (
    JSON_LINES,
    TEXT,
    AdminReply,
    error_reply,
    json_line,
    json_reply,
)
from balancer.core.ledger import Refused
from balancer.core.wording import did_you_mean, shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request on its way: what was asked, of whom, about what."""

    control: Control
    pool: str = ""
    address: str = ""
    query: Mapping[str, object] = field(default_factory=dict)
    fields: Mapping[str, object] = field(default_factory=dict)
    head_only: bool = False


async def status(call: Call) -> AdminReply:
    pool = call.query.get("pool")
    if not isinstance(pool, str):
        return json_reply(200, call.control.status(None))
    seen = call.control.status(pool)
    if pool in _pools(seen):
        return json_reply(200, seen)
    hint = did_you_mean(pool, list(_pools(call.control.status(None))), "there is")
    return error_reply(409, f"there is no pool {shown(pool)}{hint}")


async def config(call: Call) -> AdminReply:
    return AdminReply(status=200, content_type=TEXT, body=call.control.config().encode())


async def events(call: Call) -> AdminReply:
    since = call.query.get("since")
    log = call.control.events
    if call.query.get("follow") and not call.head_only:
        after = since if isinstance(since, int) else log.last
        return AdminReply(status=200, content_type=JSON_LINES, stream=_Followed(log, after))
    kept = log.recent(since if isinstance(since, int) else 0)
    return AdminReply(status=200, content_type=JSON_LINES, body=b"".join(map(json_line, kept)))


class _Followed:
    """The changes after number `after`, as lines; holds no more than a number between two."""

    def __init__(self, log: Events, after: int) -> None:
        self._log = log
        self._after = after

    async def next_piece(self) -> bytes:
        await self._log.wait_newer(self._after)
        lines = b"".join(json_line(event) for event in self._log.recent(self._after))
        self._after = self._log.last
        return lines


async def running(call: Call) -> AdminReply:
    there = list(await call.control.running(call.pool, call.address))
    row = _backend_row(call.control.status(call.pool), call.pool, call.address)
    return json_reply(200, {"running": there, "admin": row.get("admin")})


def _backend_row(seen: Mapping[str, object], pool: str, address: str) -> Mapping[str, object]:
    """The backend's entry in the status; empty when it is only draining out after a removal."""
    rows = _pools(seen).get(pool, {}).get("backends", ())
    return next((row for row in rows if row.get("address") == address), {})


def _pools(seen: Mapping[str, object]) -> Mapping[str, Any]:
    pools = seen.get("pools")
    return pools if isinstance(pools, Mapping) else {}


async def add(call: Call) -> AdminReply:
    address, weight = call.fields["address"], call.fields.get("weight")
    assert isinstance(address, str)
    share = weight if isinstance(weight, int) else None
    return _done(await call.control.add(call.pool, address, share))


async def drain(call: Call) -> AdminReply:
    return _done(await call.control.drain(call.pool, call.address))


async def ready(call: Call) -> AdminReply:
    return _done(await call.control.ready(call.pool, call.address))


async def maintenance(call: Call) -> AdminReply:
    return _done(await call.control.maintenance(call.pool, call.address))


async def weight(call: Call) -> AdminReply:
    wanted = call.fields["weight"]
    assert isinstance(wanted, int)
    return _done(await call.control.weight(call.pool, call.address, wanted))


async def remove(call: Call) -> AdminReply:
    force = call.query.get("force") is True
    try:
        return _done(await call.control.remove(call.pool, call.address, force=force))
    except Refused as refusal:
        # what would be cut belongs to the refusal: the operator decides by it
        return error_reply(
            409, str(refusal), running=list(await call.control.running(call.pool, call.address))
        )


async def stop(call: Call) -> AdminReply:
    now = call.fields.get("now") is True
    call.control.stop(now=now)
    message = "stopping now; what runs is cut" if now else "stopping; what runs may finish"
    return json_reply(202, {"changed": True, "message": message})


async def reload(call: Call) -> AdminReply:
    return _done(await call.control.reload())


async def upgrade(call: Call) -> AdminReply:
    return _done(await call.control.upgrade())


def _done(done: Done) -> AdminReply:
    answer: dict[str, object] = {"changed": done.changed, "message": done.message}
    if done.laggards:
        return json_reply(202, {**answer, "laggards": list(done.laggards)})
    return json_reply(200, answer)
