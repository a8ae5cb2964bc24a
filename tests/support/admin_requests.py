"""Requests to the admin API made from its published document: right, nearly right, and wrong.

What the document says of a path, a query and a body decides what is asked; a part of it is then put
wrong. `fits` says whether a reply is one that the document knows.
"""

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from balancer.admin.openapi import document

DOCUMENT: Mapping[str, Any] = document()
ADDRESSES = [
    "127.0.0.1:9001", "127.0.0.1:1", "LOCALHOST:9002", "localhost:9002", "[::1]:9003", "[0::1]:9003",
    "[::ffff:127.0.0.1]:9", "unix:/tmp/no/such.sock", "app_1.example:80", "127.0.0.2:65535",
]  # fmt: skip
TEXTS = [
    "", " ", "web", "wbe", "WEB", "..", ".", "/", "a/b", "%", "%00", "\x00", "\r\nX: y", "\x1b[31m", "é",
    "\u202e", "😀", "x" * 300, "{pool}", "null", "-1", "0", "1e9", "127.0.0.1", ":80", "127.0.0.1:0",
    "127.0.0.1:99999", "http://127.0.0.1:80", "unix:", "unix:x", "unix:/" + "y" * 200, "[::1", "[::]:80",
    "٣", "a:٣", "127.1:80", "a..b:80", "9" * 5000, "__proto__", "true", "1", "force", "web\u0000",
]  # fmt: skip
VALUES: list[object] = [
    None, True, False, 0, 1, -1, 1000, 1001, 2.0, 2**31, 2**63, -(2**63), 10**30, 1.5, 1e308, -0.0, float("nan"),
    float("inf"), [], {}, [[]], {"a": {"b": []}}, *TEXTS,
]  # fmt: skip
BODIES = [
    b"", b"{", b"}", b"null", b"true", b"[]", b'""', b"0", b"{}", b"{} ", b"{}{}", b"\xff\xfe{}", b"\xef\xbb\xbf{}",
    b'{"weight": 1, "weight": 2}', b'{"weight": 1e999}', b'{"weight": ' + b"9" * 5000 + b"}",
    b'{"address": "\\ud800"}', b'{"address": "\\u0000"}', b'{"\\ud83d": 1}', b"[" * 20_000, b'{"a":' * 5000,
    b'{"weight": 01}', b"{'weight': 1}", b'{"weight": 1,}', b'{"address": "a:1"} // x', b"\x00" * 64,
]  # fmt: skip
METHODS = ["GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS", "TRACE", "get", "X" * 30]
TYPES = [
    "text/plain",
    "",
    "application/json; charset=utf-16",
    "APPLICATION/JSON",
    "application/xml",
    "é",
]
FIELDS = [
    ("Origin", "http://evil.example"), ("Expect", "100-continue"), ("Connection", "close"), ("Cookie", "a=b"),
    ("X-HTTP-Method-Override", "DELETE"), ("Accept", "x/y"), ("Upgrade", "h2c"), ("Connection", "upgrade"),
]  # fmt: skip
# An instance that has ended says nothing of the rest.
ENDS_IT = ("/v1/stop", "/v1/upgrade")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request. `template`: the path of the document that it was made from, if that still holds."""

    method: str
    target: str
    fields: list[tuple[str, str]]
    body: bytes
    template: str | None

    @property
    def raw(self) -> bytes:
        lines = [f"{self.method} {self.target} HTTP/1.1", "Host: x"]
        lines += [f"{name}: {value}" for name, value in self.fields]
        if self.body:
            lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + self.body


def made(rng: random.Random) -> Asked:
    """One request; three of four parts of it are as the document says."""
    template = rng.choice(list(DOCUMENT["paths"]))
    methods = DOCUMENT["paths"][template]
    method, operation = rng.choice(list(methods.items()))
    parameters = operation.get("parameters", [])
    path = template
    for place in (each for each in parameters if each["in"] == "path"):
        path = path.replace(f"{{{place['name']}}}", _segment(place["name"], rng))
    query = _query([each for each in parameters if each["in"] == "query"], rng)
    body, kind = _body(operation, rng)
    method = method.upper() if rng.random() < 0.9 else rng.choice(METHODS)
    if template in ENDS_IT and method == "POST":
        body = rng.choice([b'{"x": 1}', b"[]", b'{"now": 1}', b"nonsense"])
    if rng.random() < 0.05:
        path, template = _bent_path(path, rng), None
    fields = [("Content-Type", kind)] if body else []
    if rng.random() < 0.1:
        fields.append(rng.choice(FIELDS))
    return Asked(method=method, target=path + query, fields=fields, body=body, template=template)


def fits(asked: Asked, status: int, body: bytes) -> str | None:
    """What is wrong with a reply; None when nothing is."""
    if asked.template is None or status in (404, 405):
        refused = status >= 400 and asked.method != "HEAD"
        return _misfit(_refusal(), json.loads(body)) if refused else None
    verb = "get" if asked.method == "HEAD" else asked.method.lower()
    replies = DOCUMENT["paths"][asked.template][verb]["responses"]
    if str(status) not in replies:
        return f"{status} is not documented for {asked.method} {asked.template}"
    content = replies[str(status)]["content"].get("application/json")
    if content is None or "schema" not in content or asked.method == "HEAD":
        return None
    return _misfit(content["schema"], json.loads(body))


def _refusal() -> Mapping[str, Any]:
    return {"$ref": "#/components/schemas/Refusal"}


def _segment(name: str, rng: random.Random) -> str:
    fitting = ["web"] if name == "pool" else ADDRESSES
    text = rng.choice(fitting) if rng.random() < 0.8 else rng.choice(TEXTS)
    quoted = quote(text, safe="" if rng.random() < 0.95 else "/:")
    return quoted.lower() if rng.random() < 0.1 else quoted


def _bent_path(path: str, rng: random.Random) -> str:
    added = rng.choice(
        ["/", "//", "/..", "/%2e%2e", ";x=y", "%", "%ff", "%00", "/x", "%2f", "/*", "."]
    )
    at = rng.randrange(len(path) + 1)
    return rng.choice(
        [path + added, path[:at] + added + path[at:], "/" + path, path.upper(), "*", "/"]
    )


def _query(parameters: list[Mapping[str, Any]], rng: random.Random) -> str:
    pairs: list[str] = []
    for each in parameters:
        if rng.random() < 0.5:
            value = _of_type(each["schema"], rng) if rng.random() < 0.8 else rng.choice(VALUES)
            text = json.dumps(value) if not isinstance(value, str) else value
            # A stream that has no end says nothing of the next request.
            if each["name"] == "follow" and text.lower() in ("true", "1", ""):
                text = "0"
            pairs.append(f"{each['name']}={quote(text, safe='')}")
    if rng.random() < 0.1:
        pairs.append(
            rng.choice(["x=y", "=", "&", "a=b=c", "%ff=1", "pool", "pool=web", ";", "a=%zz"])
        )
    return f"?{'&'.join(pairs)}" if pairs else ""


def _body(operation: Mapping[str, Any], rng: random.Random) -> tuple[bytes, str]:
    """A body and its media type."""
    kind = "application/json" if rng.random() < 0.9 else rng.choice(TYPES)
    described = operation.get("requestBody")
    if described is None:
        return (b"" if rng.random() < 0.8 else rng.choice(BODIES)), kind
    if rng.random() < 0.1:
        return rng.choice(BODIES), kind
    schema = described["content"]["application/json"]["schema"]
    fields: dict[str, object] = {}
    for name, each in schema["properties"].items():
        if rng.random() < 0.9:
            fields[name] = _of_type(each, rng) if rng.random() < 0.8 else rng.choice(VALUES)
    if rng.random() < 0.05:
        fields[rng.choice(TEXTS)] = rng.choice(VALUES)
    body = json.dumps(fields, ensure_ascii=rng.random() < 0.5).encode()
    return (body[: rng.randrange(len(body))] if rng.random() < 0.03 else body), kind


def _of_type(schema: Mapping[str, Any], rng: random.Random) -> object:
    match schema["type"]:
        case "boolean":
            return rng.choice([True, False])
        case "integer":
            least, most = schema.get("minimum", -10), schema.get("maximum", 10)
            return rng.choice([least, most, rng.randint(least, most)])
        case _:
            return rng.choice(ADDRESSES if ":" in schema.get("examples", [""])[0] else ["web"])


def _misfit(schema: Mapping[str, Any], value: object, place: str = "the reply") -> str | None:
    """What of a value is not as its schema says; knows as much of JSON Schema as the document uses."""
    if "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if "enum" in schema and value not in schema["enum"]:
        return f"{place} is {value!r}"
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_is(kind, value) for kind in kinds):
        return f"{place} is no {' or '.join(kinds)}: {value!r}"
    if isinstance(value, list):
        each = schema.get("items", {})
        return next(filter(None, (_misfit(each, one, f"{place}[]") for one in value)), None)
    if not isinstance(value, dict):
        return None
    absent = [name for name in schema.get("required", []) if name not in value]
    if absent:
        return f"{place} has no {absent}"
    properties, more = schema.get("properties", {}), schema.get("additionalProperties", {})
    for name, one in value.items():
        if name not in properties and more is False:
            return f"{place} has {name!r}"
        wrong = _misfit(properties.get(name, more), one, f"{place}.{name}")
        if wrong is not None:
            return wrong
    return None


def _is(kind: str, value: object) -> bool:
    match kind:
        case "object":
            return isinstance(value, dict)
        case "array":
            return isinstance(value, list)
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "null":
            return value is None
        case _:
            return isinstance(value, int | float) and not isinstance(value, bool)
