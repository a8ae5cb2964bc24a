"""Checks what a request brings: its JSON body and its query, every key known and of its type.

A wrong input is answered with one sentence that says what would be right; nothing is guessed.
"""

import json
from collections.abc import Mapping
from typing import cast
from urllib.parse import parse_qsl

from balancer.admin.messages import JSON, AdminRequest, Unacceptable, error_reply

_TYPE_WORD = {str: "a string", int: "a whole number", bool: "true or false"}
_FLAGS = {"": True, "1": True, "true": True, "0": False, "false": False}


def body_fields(request: AdminRequest, allowed: Mapping[str, type]) -> dict[str, object]:
    """The body's fields. No body: none. Raises Unacceptable for anything but what is allowed."""
    if not request.body:
        return {}
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != JSON:
        said = f"not {media_type!r}" if media_type else "none was given"
        raise Unacceptable(error_reply(415, f"a body needs 'Content-Type: {JSON}', {said}"))
    return _checked(_parsed(request.body), allowed)


def flags_and_values(request: AdminRequest, allowed: Mapping[str, type]) -> dict[str, object]:
    """The query's parameters, typed; a flag may stand without a value."""
    try:
        # separator and count are fixed: two readers of one query must not differ
        pairs = parse_qsl(request.query, keep_blank_values=True, max_num_fields=8, errors="strict")
    except ValueError:
        raise _bad("the query is not readable") from None
    values: dict[str, object] = {}
    for key, text in pairs:
        if key in values:
            raise _bad(f"parameter {key!r} is given twice")
        values[key] = _from_text(key, text, allowed.get(key))
    return _checked(values, allowed)


def _parsed(body: bytes) -> dict[str, object]:
    try:
        value = json.loads(body, object_pairs_hook=_without_doubles)
    except _Double as double:
        raise _bad(f"key {double.key!r} is given twice") from None
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


def _checked(values: dict[str, object], allowed: Mapping[str, type]) -> dict[str, object]:
    for key, value in values.items():
        if key not in allowed:
            known = ", ".join(sorted(allowed)) or "none"
            raise _bad(f"unknown key {key!r}; known here: {known}")
        # bool is an int to Python, and `"weight": true` is a mistake
        if type(value) is not allowed[key]:
            raise _bad(f"{key!r} must be {_TYPE_WORD[allowed[key]]}, not {json.dumps(value)}")
    return values


def _from_text(key: str, text: str, wanted: type | None) -> object:
    if wanted is bool:
        if text.lower() not in _FLAGS:
            raise _bad(f"{key!r} must be true or false, not {text!r}")
        return _FLAGS[text.lower()]
    if wanted is int:
        if not (text.isascii() and text.isdigit() and len(text) < 19):
            raise _bad(f"{key!r} must be a whole number, not {text!r}")
        return int(text)
    return text


def _bad(sentence: str) -> Unacceptable:
    return Unacceptable(error_reply(400, sentence))
