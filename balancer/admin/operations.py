"""The API as a table: every path, every method there, what it takes, and what it may answer.

Requests are dispatched and checked by it, and the published document is written from it, so the two
cannot differ. Reads by GET, changes by POST and DELETE only.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from balancer.admin import calls
from balancer.admin.calls import Call
from balancer.admin.inputs import DIGITS_MAX, Input, Inputs
from balancer.admin.messages import AdminReply
from balancer.core.ledger import WEIGHT_MAX

CHANGE = {200: "Done", 202: "Done", 409: "Refusal", 500: "Refusal", 503: "Refusal"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path. `replies`: the schema or media type by status, beside the usual ones."""

    answer: Callable[[Call], Awaitable[AdminReply]]
    summary: str
    query: Inputs = field(default_factory=dict)
    body: Inputs = field(default_factory=dict)
    replies: Mapping[int, str] = field(default_factory=lambda: CHANGE)


def _weight(needed: str = "") -> Input:
    said = "Its share of the work; 0 takes no new requests."
    return Input(kind=int, description=said, needed=needed, least=0, most=WEIGHT_MAX, example=2)


_ADDRESS = Input(
    kind=str,
    description="HOST:PORT, [IPV6]:PORT or unix:/PATH, in any spelling.",
    needed="an 'address', such as \"127.0.0.1:9001\"",
    example="127.0.0.1:9001",
)
_SINCE = Input(
    kind=int,
    description="Only changes with a higher number.",
    least=0,
    most=10**DIGITS_MAX - 1,
)
_FOLLOW = Input(
    kind=bool,
    description="Stay, and send each change as it happens; without since, from now on.",
)
_FORCE = Input(kind=bool, description="Even if that cuts what is in flight.")
_NOW = Input(kind=bool, description="Cut what runs instead of letting it end.")
_POOL = Input(kind=str, description="Only this pool.", example="web")

_ONE = "/v1/pools/{pool}/backends/{address}"

OPERATIONS: Mapping[str, Mapping[str, Operation]] = {
    "/v1/status": {
        "GET": Operation(
            answer=calls.status,
            summary="Pools and backends, with the reason for each state",
            query={"pool": _POOL},
            replies={200: "Status", 409: "Refusal"},
        )
    },
    "/v1/config": {
        "GET": Operation(
            answer=calls.config,
            summary="The configuration in force, runtime changes included",
            replies={200: "text/plain"},
        )
    },
    "/v1/events": {
        "GET": Operation(
            answer=calls.events,
            summary="What changed, why, and with what effect",
            query={"since": _SINCE, "follow": _FOLLOW},
            replies={200: "application/x-ndjson", 503: "Refusal"},
        )
    },
    "/v1/reload": {
        "POST": Operation(answer=calls.reload, summary="Go by the configuration file as it is now")
    },
    "/v1/upgrade": {
        "POST": Operation(
            answer=calls.upgrade, summary="Let the program that is installed now take over"
        )
    },
    "/v1/stop": {
        "POST": Operation(
            answer=calls.stop,
            summary="End the instance, gracefully or at once",
            body={"now": _NOW},
            replies={202: "Done"},
        )
    },
    "/v1/pools/{pool}/backends": {
        "POST": Operation(
            answer=calls.add,
            summary="Add a backend; it takes traffic after its first passed probe",
            body={"address": _ADDRESS, "weight": _weight()},
        )
    },
    _ONE: {
        "DELETE": Operation(
            answer=calls.remove,
            summary="Take a backend out of the pool; refused while work is in flight",
            query={"force": _FORCE},
        )
    },
    f"{_ONE}/running": {
        "GET": Operation(
            answer=calls.running,
            summary="What is in flight on a backend",
            replies={200: "Running"},
        )
    },
    f"{_ONE}/drain": {
        "POST": Operation(answer=calls.drain, summary="Nothing new; what runs may finish")
    },
    f"{_ONE}/ready": {"POST": Operation(answer=calls.ready, summary="Undo drain and maintenance")},
    f"{_ONE}/maintenance": {
        "POST": Operation(answer=calls.maintenance, summary="Neither traffic nor probes")
    },
    f"{_ONE}/weight": {
        "POST": Operation(
            answer=calls.weight,
            summary="Set a backend's share of the traffic",
            body={"weight": _weight(f"a 'weight' from 0 to {WEIGHT_MAX}")},
        )
    },
}
"""Every path with its methods; the health paths are in `balancer.admin.health`."""
