"""All that a client was sent, taken apart into answers, by a reader of its own."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Said:
    """One final answer; `whole`: nobody could tell that something is missing."""

    status: int
    body: bytes
    whole: bool

    def like(self, other: "Said") -> bool:
        return (self.status, self.body) == (other.status, other.body)


def messages(data: bytes, methods: tuple[str, ...], end: str) -> tuple[list[Said], bytes]:
    """The answers in `data`, and what is left that is none.

    `methods`: of the requests, as far as they are not GET. `end`: how the connection ended.
    """
    said: list[Said] = []
    while data:
        head, found, rest = data.partition(b"\r\n\r\n")
        if not data.startswith(b"HTTP/1.1 "[: len(data)]):
            return said, data
        if not found:
            said.append(Said(int(head[9:12] or b"0"), b"", whole=False))
            return said, b""
        if head.count(b"HTTP/1.1 ") > 1:
            return said, data
        status, data = int(head[9:12]), rest
        if status == 101:  # whatever follows is no HTTP
            said.append(Said(status, data, whole=end == "in order"))
            return said, b""
        if status < 200:
            continue
        method = methods[len(said)] if len(said) < len(methods) else "GET"
        body, whole, data = _body(head.lower(), status, method, data, end)
        said.append(Said(status, body, whole))
    return said, b""


def _body(
    head: bytes, status: int, method: str, data: bytes, end: str
) -> tuple[bytes, bool, bytes]:
    """The body at the start of `data`, whether it is whole, and what follows."""
    if method == "HEAD" or status in (204, 304):
        return b"", True, data
    if b"\r\ntransfer-encoding: chunked" in head:
        return _chunks(data)
    _, found, after = head.partition(b"\r\ncontent-length:")
    if not found:
        return data, end == "in order", b""
    size = int(after.split(b"\r\n")[0])
    return data[:size], len(data) >= size, data[size:]


def _chunks(data: bytes) -> tuple[bytes, bool, bytes]:
    body = b""
    while True:
        line, found, rest = data.partition(b"\r\n")
        if not found:
            return body, False, b""
        size = int(line, 16)
        if not size:
            break
        body += rest[:size]
        if len(rest) < size + 2:
            return body, False, b""
        data = rest[size + 2 :]
    while True:
        line, found, rest = rest.partition(b"\r\n")
        if not found:
            return body, False, b""
        if not line:
            return body, True, rest
