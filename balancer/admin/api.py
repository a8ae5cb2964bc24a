"""Which admin request is which operation: paths, methods and inputs, checked against the table.

Refuses what the table does not know and says what there is. It owns no socket and no state; every
decision about pools is the instance's.
"""

import re
from urllib.parse import unquote

from balancer.admin.calls import Call
from balancer.admin.control import Control, HandedOver, NotApplied
from balancer.admin.health import answer_health
from balancer.admin.inputs import checked_body, checked_query
from balancer.admin.messages import (
    AdminReply,
    AdminRequest,
    Unacceptable,
    error_reply,
    json_reply,
    wrong_method,
)
from balancer.admin.openapi import DOCUMENT_PATH, document
from balancer.admin.operations import OPERATIONS
from balancer.core.address import AddressError, parse_address
from balancer.core.ledger import Refused
from balancer.core.wording import shown

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
PATHS = sorted([*OPERATIONS, DOCUMENT_PATH])


async def answer(request: AdminRequest, control: Control) -> AdminReply:
    """Answer one request of the unix socket; never raises for what a caller may get wrong."""
    try:
        return await _routed(request, control)
    except Unacceptable as refusal:
        return refusal.reply
    except Refused as refusal:
        return error_reply(409, str(refusal))
    except HandedOver as failure:
        return error_reply(503, str(failure), again=True)
    except NotApplied as failure:
        return error_reply(500, str(failure))


async def _routed(request: AdminRequest, control: Control) -> AdminReply:
    health = answer_health(request, control)
    if health is not None:
        return health
    if request.path == DOCUMENT_PATH:
        return _document(request)
    template, parts = _template_of(request.path)
    methods = OPERATIONS.get(template)
    if methods is None:
        return error_reply(404, f"there is no {shown(request.path)}", paths=PATHS)
    verb = "GET" if request.method == "HEAD" else request.method
    operation = methods.get(verb)
    if operation is None:
        allow = tuple(methods)
        sentence = (
            f"{shown(request.method)} is not possible on {template}; use {' or '.join(allow)}"
        )
        return wrong_method(sentence, allow)
    call = Call(
        control=control,
        query=checked_query(request, operation.query),
        fields=checked_body(request, operation.body),
        head_only=request.method == "HEAD",
        **parts,
    )
    return await operation.answer(call)


def _document(request: AdminRequest) -> AdminReply:
    if request.method not in ("GET", "HEAD"):
        return wrong_method(f"{DOCUMENT_PATH} is read by GET or HEAD only", ("GET", "HEAD"))
    return json_reply(200, document())


def _template_of(path: str) -> tuple[str, dict[str, str]]:
    """The operation's path and what its places hold, decoded: an address may hold slashes."""
    before, *segments = path.split("/")
    parts: dict[str, str] = {}
    if before:
        return path, parts  # no path, but what a proxy is asked, or nonsense
    if segments[:2] == ["v1", "pools"]:
        if len(segments) > 2:
            parts["pool"] = _decoded(segments[2])
            segments[2] = "{pool}"
        if len(segments) > 4 and segments[3] == "backends":
            parts["address"] = _canonical(_decoded(segments[4]))
            segments[4] = "{address}"
    return "/" + "/".join(segments), parts


def _decoded(segment: str) -> str:
    """What a segment of a path stands for, in one reading only."""
    try:
        if _BAD_ESCAPE.search(segment) is None:
            return unquote(segment, errors="strict")
    except UnicodeDecodeError:
        pass
    raise Unacceptable(error_reply(400, f"{shown(segment)} is not percent-encoded UTF-8"))


def _canonical(address: str) -> str:
    """One spelling for one place; what is no address stays as it is and will not be found."""
    try:
        return str(parse_address(address))
    except AddressError:
        return address
