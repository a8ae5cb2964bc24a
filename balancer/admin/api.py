"""Which admin request does what: a table of paths and methods over a `Control`.

Reads by GET, changes by POST and DELETE only. Refuses what it does not know and says what there
is. It owns no socket and no state; every decision about pools is the instance's.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from balancer.admin.control import Control, Done, Events, NotApplied
from balancer.admin.health import answer_health
from balancer.admin.inputs import body_fields, flags_and_values
from balancer.admin.messages import (
    JSON_LINES,
    TEXT,
    AdminReply,
    AdminRequest,
    Unacceptable,
    error_reply,
    json_line,
    json_reply,
    wrong_method,
)
from balancer.core.address import AddressError, parse_address
from balancer.core.ledger import WEIGHT_MAX, Refused
from balancer.core.wording import did_you_mean, shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request on its way to a route: what was asked, of whom, about what."""

    request: AdminRequest
    control: Control
    pool: str = ""
    address: str = ""


async def answer(request: AdminRequest, control: Control) -> AdminReply:
    """Answer one request of the unix socket; never raises for what a caller may get wrong."""
    try:
        return await _routed(request, control)
    except Unacceptable as refusal:
        return refusal.reply
    except Refused as refusal:
        return error_reply(409, str(refusal))
    except NotApplied as failure:
        return error_reply(500, str(failure))


async def _routed(request: AdminRequest, control: Control) -> AdminReply:
    health = answer_health(request, control)
    if health is not None:
        return health
    template, parts = _template_of(request.path)
    methods = ROUTES.get(template)
    if methods is None:
        return error_reply(404, f"there is no {request.path}", paths=sorted(ROUTES))
    verb = "GET" if request.method == "HEAD" else request.method
    route = methods.get(verb)
    if route is None:
        allow = tuple(methods)
        sentence = f"{request.method} is not possible on {template}; use {' or '.join(allow)}"
        return wrong_method(sentence, allow)
    return await route(Call(request=request, control=control, **parts))


def _template_of(path: str) -> tuple[str, dict[str, str]]:
    """The route's pattern and what its places hold, decoded: an address may hold slashes."""
    segments = path.split("/")[1:]
    parts: dict[str, str] = {}
    if segments[:2] == ["v1", "pools"]:
        if len(segments) > 2:
            parts["pool"] = unquote(segments[2])
            segments[2] = "{pool}"
        if len(segments) > 4 and segments[3] == "backends":
            parts["address"] = _canonical(unquote(segments[4]))
            segments[4] = "{address}"
    return "/" + "/".join(segments), parts


def _canonical(address: str) -> str:
    """One spelling for one place; what is no address stays as it is and will not be found."""
    try:
        return str(parse_address(address))
    except AddressError:
        return address


async def _status(call: Call) -> AdminReply:
    query = flags_and_values(call.request, {"pool": str})
    pool = query.get("pool")
    if not isinstance(pool, str):
        return json_reply(200, call.control.status(None))
    status = call.control.status(pool)
    if pool in _pools(status):
        return json_reply(200, status)
    hint = did_you_mean(pool, list(_pools(call.control.status(None))), "there is")
    return error_reply(409, f"there is no pool {shown(pool)}{hint}")


async def _config(call: Call) -> AdminReply:
    flags_and_values(call.request, {})
    return AdminReply(status=200, content_type=TEXT, body=call.control.config().encode())


async def _events(call: Call) -> AdminReply:
    query = flags_and_values(call.request, {"since": int, "follow": bool})
    since = query.get("since")
    events = call.control.events
    if query.get("follow") and call.request.method == "GET":
        after = since if isinstance(since, int) else events.last
        return AdminReply(status=200, content_type=JSON_LINES, stream=_Followed(events, after))
    kept = events.recent(since if isinstance(since, int) else 0)
    return AdminReply(status=200, content_type=JSON_LINES, body=b"".join(map(json_line, kept)))


class _Followed:
    """The changes after number `after`, as lines; holds no more than a number between two."""

    def __init__(self, events: Events, after: int) -> None:
        self._events = events
        self._after = after

    async def next_piece(self) -> bytes:
        await self._events.wait_newer(self._after)
        lines = b"".join(json_line(event) for event in self._events.recent(self._after))
        self._after = self._events.last
        return lines


async def _running(call: Call) -> AdminReply:
    flags_and_values(call.request, {})
    running = list(await call.control.running(call.pool, call.address))
    row = _backend_row(call.control.status(call.pool), call.pool, call.address)
    return json_reply(200, {"running": running, "admin": row.get("admin")})


def _backend_row(status: Mapping[str, object], pool: str, address: str) -> Mapping[str, object]:
    """The backend's entry in the status; empty when it is only draining out after a removal."""
    rows = _pools(status).get(pool, {}).get("backends", ())
    return next((row for row in rows if row.get("address") == address), {})


def _pools(status: Mapping[str, object]) -> Mapping[str, Any]:
    pools = status.get("pools")
    return pools if isinstance(pools, Mapping) else {}


async def _add(call: Call) -> AdminReply:
    fields = body_fields(call.request, {"address": str, "weight": int})
    address = fields.get("address")
    if not isinstance(address, str):
        return error_reply(400, "the body needs an 'address', such as \"127.0.0.1:9001\"")
    weight = _weight_in(fields)
    return _done(await call.control.add(call.pool, address, weight))


async def _drain(call: Call) -> AdminReply:
    body_fields(call.request, {})
    return _done(await call.control.drain(call.pool, call.address))


async def _ready(call: Call) -> AdminReply:
    body_fields(call.request, {})
    return _done(await call.control.ready(call.pool, call.address))


async def _maintenance(call: Call) -> AdminReply:
    body_fields(call.request, {})
    return _done(await call.control.maintenance(call.pool, call.address))


async def _weight(call: Call) -> AdminReply:
    weight = _weight_in(body_fields(call.request, {"weight": int}))
    if weight is None:
        return error_reply(400, f"the body needs a 'weight' from 0 to {WEIGHT_MAX}")
    return _done(await call.control.weight(call.pool, call.address, weight))


async def _remove(call: Call) -> AdminReply:
    force = flags_and_values(call.request, {"force": bool}).get("force") is True
    try:
        return _done(await call.control.remove(call.pool, call.address, force=force))
    except Refused as refusal:
        # what would be cut belongs to the refusal: the operator decides by it
        return error_reply(
            409, str(refusal), running=list(await call.control.running(call.pool, call.address))
        )


async def _stop(call: Call) -> AdminReply:
    now = body_fields(call.request, {"now": bool}).get("now") is True
    call.control.stop(now=now)
    message = "stopping now; what runs is cut" if now else "stopping; what runs may finish"
    return json_reply(202, {"changed": True, "message": message})


async def _reload(call: Call) -> AdminReply:
    body_fields(call.request, {})
    return _done(await call.control.reload())


async def _upgrade(call: Call) -> AdminReply:
    body_fields(call.request, {})
    return _done(await call.control.upgrade())


def _weight_in(fields: Mapping[str, object]) -> int | None:
    weight = fields.get("weight")
    if not isinstance(weight, int):
        return None
    if not 0 <= weight <= WEIGHT_MAX:
        raise Unacceptable(error_reply(400, f"weight {weight} is not from 0 to {WEIGHT_MAX}"))
    return weight


def _done(done: Done) -> AdminReply:
    answer: dict[str, object] = {"changed": done.changed, "message": done.message}
    if done.laggards:
        return json_reply(202, {**answer, "laggards": list(done.laggards)})
    return json_reply(200, answer)


_ONE = "/v1/pools/{pool}/backends/{address}"

ROUTES: Mapping[str, Mapping[str, Callable[[Call], Awaitable[AdminReply]]]] = {
    "/v1/status": {"GET": _status},
    "/v1/config": {"GET": _config},
    "/v1/events": {"GET": _events},
    "/v1/reload": {"POST": _reload},
    "/v1/upgrade": {"POST": _upgrade},
    "/v1/stop": {"POST": _stop},
    "/v1/pools/{pool}/backends": {"POST": _add},
    _ONE: {"DELETE": _remove},
    f"{_ONE}/running": {"GET": _running},
    f"{_ONE}/drain": {"POST": _drain},
    f"{_ONE}/ready": {"POST": _ready},
    f"{_ONE}/maintenance": {"POST": _maintenance},
    f"{_ONE}/weight": {"POST": _weight},
}
"""Every path with its methods; the health paths are in `balancer.admin.health`."""
