"""What the admin server and the API hand each other: a request and a reply, free of any socket."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

JSON = "application/json"
JSON_LINES = "application/x-ndjson"
TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminRequest:
    """One request, whole. `path` is still percent-encoded; header names are lower case."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class Stream(Protocol):
    """A body that is not known beforehand."""

    async def next_piece(self) -> bytes:
        """Wait for the next bytes; empty at the end."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminReply:
    """One reply: `body` at once, or `stream` piece by piece until it ends or the reader leaves."""

    status: int
    content_type: str
    body: bytes = b""
    stream: Stream | None = None
    allow: tuple[str, ...] = ()


class Unacceptable(Exception):
    """A request that is answered with `reply` and goes no further."""

    def __init__(self, reply: AdminReply) -> None:
        super().__init__(reply.status)
        self.reply = reply


def json_reply(status: int, value: Mapping[str, object]) -> AdminReply:
    return AdminReply(status=status, content_type=JSON, body=json_line(value))


def error_reply(status: int, sentence: str, **more: object) -> AdminReply:
    """Say in one sentence what is wrong, as `{"error": …}`."""
    return json_reply(status, {"error": sentence, **more})


def wrong_method(sentence: str, allow: tuple[str, ...]) -> AdminReply:
    refusal = error_reply(405, sentence)
    return AdminReply(status=405, content_type=refusal.content_type, body=refusal.body, allow=allow)


def text_reply(status: int, text: str) -> AdminReply:
    return AdminReply(status=status, content_type=TEXT, body=text.encode())


def json_line(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
