"""Heads of messages as values, and the one exception for a message that cannot be accepted."""

from dataclasses import dataclass
from typing import TypeAlias

Fields: TypeAlias = tuple[tuple[bytes, bytes], ...]
"""Field lines in the order and the spelling in which they came: (name, value)."""

# RFC 9110 5.6.2, as a pattern.
TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# RFC 9110 9.2.2: the methods that may be repeated without being asked to.
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})


class BadMessage(Exception):
    """A message that breaks the rules: the status to answer with and a sentence for its sender.

    `proxy_error` is an RFC 9209 2.3 error type.
    """

    def __init__(self, status: int, sentence: str, proxy_error: str = "http_request_error") -> None:
        super().__init__(sentence)
        self.proxy_error = proxy_error
        self.status = status
        self.sentence = sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestHead:
    """A request line and its fields; `minor` is the y of HTTP/1.y."""

    method: str
    target: str
    minor: int
    fields: Fields

    def values(self, name: bytes) -> list[bytes]:
        """Every value of a field; `name` in lower case."""
        return [value for key, value in self.fields if key.lower() == name]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseHead:
    """A status line and its fields; 1xx are interim."""

    status: int
    reason: bytes
    minor: int
    fields: Fields

    def values(self, name: bytes) -> list[bytes]:
        """Every value of a field; `name` in lower case."""
        return [value for key, value in self.fields if key.lower() == name]

    @property
    def interim(self) -> bool:
        return self.status < 200

    @property
    def switches(self) -> bool:
        """101: from here on it is another protocol (RFC 9110 15.2.2)."""
        return self.status == 101


def tokens(values: list[bytes]) -> list[bytes]:
    """The members of a comma-separated list field, in lower case (RFC 9110 5.6.1)."""
    return [part for value in values for raw in value.split(b",") if (part := raw.strip().lower())]
