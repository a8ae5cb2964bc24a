"""The API described for programs: an OpenAPI 3.1 document, written from the table that dispatches.

Says what `balancer.admin.operations` says, and the shapes of the replies. Decides nothing.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from http import HTTPStatus
from importlib.metadata import version

from balancer.admin.health import HEALTH_PATHS
from balancer.admin.inputs import Input, Inputs
from balancer.admin.messages import JSON
from balancer.admin.operations import OPERATIONS, Operation

DOCUMENT_PATH = "/v1/openapi.json"

_TYPES = {str: "string", int: "integer", bool: "boolean"}
_TEXT = {"type": "string"}
_FLAG = {"type": "boolean"}
_COUNT = {"type": "integer", "minimum": 0}
_PLACES = {
    "pool": "The pool's name.",
    "address": "The backend's address, percent-encoded: unix%3A%2Frun%2Fx.sock.",
}


def _object(required: str, closed: bool = False, **properties: object) -> dict[str, object]:
    shape: dict[str, object] = {"type": "object", "properties": properties}
    shape["required"] = required.split()
    return {**shape, "additionalProperties": False} if closed else shape


def _list(of: object) -> dict[str, object]:
    return {"type": "array", "items": of}


_BACKEND = _object(
    "address weight admin health ejected available reason since in_flight requests failures",
    address=_TEXT,
    weight=_COUNT,
    admin={"enum": ["ready", "draining", "maintenance"]},
    health=_TEXT,
    ejected=_FLAG,
    available=_FLAG,
    reason=_TEXT,
    since=_TEXT,
    in_flight=_COUNT,
    requests=_COUNT,
    failures=_COUNT,
)
_POOL = _object(
    "policy panic available backends",
    policy=_TEXT,
    panic=_FLAG,
    available=_COUNT,
    backends=_list(_BACKEND),
)
_EXCHANGE = _object(
    "id method path client age_s bytes",
    id=_TEXT,
    method=_TEXT,
    path=_TEXT,
    client=_TEXT,
    age_s={"type": "number"},
    bytes=_COUNT,
    protocol=_TEXT,
)
SCHEMAS: Mapping[str, Mapping[str, object]] = {
    "Refusal": _object("error", error=_TEXT, running=_list(_EXCHANGE), paths=_list(_TEXT)),
    "Done": _object(
        "changed message", closed=True, changed=_FLAG, message=_TEXT, laggards=_list(_TEXT)
    ),
    "Running": _object(
        "running admin",
        closed=True,
        running=_list(_EXCHANGE),
        admin={"type": ["string", "null"]},
    ),
    "Status": _object(
        "instance ready pools",
        instance=_TEXT,
        ready=_FLAG,
        pools={"type": "object", "additionalProperties": _POOL},
    ),
}


@cache
def document() -> Mapping[str, object]:
    """The whole document."""
    paths: dict[str, object] = {
        path: {method.lower(): _operation(path, each) for method, each in methods.items()}
        for path, methods in OPERATIONS.items()
    }
    plain = _replies({200: "text/plain", 503: "text/plain"})
    paths |= {path: {"get": {"responses": plain}} for path in HEALTH_PATHS}
    paths[DOCUMENT_PATH] = {"get": {"responses": _replies({200: JSON})}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "balancer admin API", "version": version("balancer")},
        "paths": paths,
        "components": {"schemas": SCHEMAS},
    }


def schema_of(inputs: Inputs) -> dict[str, object]:
    """A body as JSON Schema: what is there is known, and of its type."""
    return {
        "type": "object",
        "properties": {key: _value(each) for key, each in inputs.items()},
        "required": [key for key, each in inputs.items() if each.needed],
        "additionalProperties": False,
    }


def _operation(path: str, operation: Operation) -> dict[str, object]:
    described: dict[str, object] = {
        "summary": operation.summary,
        "parameters": [*_places(path), *_parameters(operation.query)],
        "responses": _replies({400: "Refusal", 415: "Refusal", **operation.replies}),
    }
    if operation.body:
        content = {JSON: {"schema": schema_of(operation.body)}}
        needed = any(each.needed for each in operation.body.values())
        described["requestBody"] = {"required": needed, "content": content}
    return described


def _places(path: str) -> Iterator[dict[str, object]]:
    for name in re.findall(r"\{(\w+)\}", path):
        said = _PLACES[name]
        yield {"name": name, "in": "path", "required": True, "description": said, "schema": _TEXT}


def _parameters(query: Inputs) -> Iterator[dict[str, object]]:
    for name, each in query.items():
        yield {"name": name, "in": "query", "required": False, "schema": _value(each)}


def _value(wanted: Input) -> dict[str, object]:
    value: dict[str, object] = {"type": _TYPES[wanted.kind], "description": wanted.description}
    bounds = {"minimum": wanted.least, "maximum": wanted.most}
    described = value | {name: bound for name, bound in bounds.items() if bound is not None}
    return described if wanted.example is None else {**described, "examples": [wanted.example]}


def _replies(replies: Mapping[int, str]) -> dict[str, object]:
    return {
        str(status): {
            "description": HTTPStatus(status).phrase,
            "content": _content(what),
        }
        for status, what in sorted(replies.items())
    }


def _content(what: str) -> dict[str, object]:
    if what in SCHEMAS:
        return {JSON: {"schema": {"$ref": f"#/components/schemas/{what}"}}}
    return {what: {}}
