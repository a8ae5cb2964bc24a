"""What a request may bring, described and checked: its JSON body and its query.

One description serves the check and the published schema. Every key is known and of its type; a
wrong input is answered with one sentence that says what would be right; nothing is guessed.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias, cast
from urllib.parse import parse_qsl

from balancer.admin.messages import JSON, AdminRequest, Unacceptable, error_reply
from balancer.core.wording import SHOWN_CHARS_MAX, shown

_TYPE_WORD = {str: "a string", int: "a whole number", bool: "true or false"}
_FLAGS = {"": True, "1": True, "true": True, "0": False, "false": False}
# A number in a query, and with it what an event or a weight may be, fits 64 bits.
DIGITS_MAX = 18
QUERY_FIELDS_MAX = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """One key of a body or a query. `needed`: how its absence is refused; empty: it may be absent."""

    kind: type[str] | type[int] | type[bool]
    description: str
    needed: str = ""
    least: int | None = None
    most: int | None = None
    example: object = None


Inputs: TypeAlias = Mapping[str, Input]


def checked_body(request: AdminRequest, known: Inputs) -> dict[str, object]:
    """The body's fields. No body: none. Raises Unacceptable for anything but what is known."""
    if not request.body:
        return _checked({}, known)
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != JSON:
        said = f"not {shown(media_type)}" if media_type else "none was given"
        raise Unacceptable(error_reply(415, f"a body needs 'Content-Type: {JSON}', {said}"))
    return _checked(_parsed(request.body), known)


def checked_query(request: AdminRequest, known: Inputs) -> dict[str, object]:
    """The query's parameters, typed; a flag may stand without a value."""
    try:
        # separator and count are fixed: two readers of one query must not differ
        pairs = parse_qsl(
            request.query,
            keep_blank_values=True,
            max_num_fields=QUERY_FIELDS_MAX,
            errors="strict",
        )
    except ValueError:
        raise _bad("the query is not readable") from None
    values: dict[str, object] = {}
    for key, text in pairs:
        if key in values:
            raise _bad(f"parameter {shown(key)} is given twice")
        values[key] = _from_text(key, text, known.get(key))
    return _checked(values, known)


def _parsed(body: bytes) -> dict[str, object]:
    try:
        value = json.loads(body, object_pairs_hook=_without_doubles)
    except _Double as double:
        raise _bad(f"key {shown(double.key)} is given twice") from None
    except (ValueError, RecursionError) as error:
        raise _bad(f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise _bad("the body must be a JSON object")
    return cast("dict[str, object]", value)


class _Double(Exception):
    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def _without_doubles(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields: dict[str, object] = {}
    for key, value in pairs:
        if key in fields:
            raise _Double(key)
        fields[key] = value
    return fields


def _checked(values: dict[str, object], known: Inputs) -> dict[str, object]:
    for key, value in values.items():
        if key not in known:
            names = ", ".join(sorted(known)) or "none"
            raise _bad(f"unknown key {shown(key)}; known here: {names}")
        values[key] = _fitting(key, value, known[key])
    for key, wanted in known.items():
        if wanted.needed and key not in values:
            raise _bad(f"the body needs {wanted.needed}")
    return values


def _fitting(key: str, value: object, wanted: Input) -> object:
    if wanted.kind is int and isinstance(value, float) and value.is_integer():
        value = int(value)  # to JSON, 2.0 is as whole as 2
    # bool is an int to Python, and `"weight": true` is a mistake
    if type(value) is not wanted.kind:
        said = value if isinstance(value, str) else json.dumps(value)
        raise _bad(f"{key!r} must be {_TYPE_WORD[wanted.kind]}, not {_cut(str(said))}")
    if isinstance(value, int) and wanted.most is not None:
        least = wanted.least or 0
        if not least <= value <= wanted.most:
            raise _bad(f"{key} {_cut(str(value))} is not from {least} to {wanted.most}")
    return value


def _from_text(key: str, text: str, wanted: Input | None) -> object:
    if wanted is None or wanted.kind is str:
        return text
    if wanted.kind is bool:
        if text.lower() not in _FLAGS:
            raise _bad(f"{key!r} must be true or false, not {shown(text)}")
        return _FLAGS[text.lower()]
    if not (text.isascii() and text.isdigit() and len(text) <= DIGITS_MAX):
        raise _bad(f"{key!r} must be a whole number, not {shown(text)}")
    return int(text)


def _cut(text: str) -> str:
    """A value as it was written, unless it is long."""
    return text if len(text) <= SHOWN_CHARS_MAX else text[:SHOWN_CHARS_MAX] + "…"


def _bad(sentence: str) -> Unacceptable:
    return Unacceptable(error_reply(400, sentence))
