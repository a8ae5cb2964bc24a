"""A second opinion on what goes out: RFC 9110 and 9112 written down once more, as narrow as can be.

Shares nothing with the readers of `balancer.wire`, and knows only the forms that we send.
"""

import re

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
# RFC 9110 5.5, without blanks at its ends.
_VALUE = rb"(?:[\x21-\x7e\x80-\xff](?:[\t \x21-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?"
_LINE = re.compile(rb"(%s): ?(%s)" % (_TOKEN, _VALUE))
_ESCAPED = rb"(?:[\x21\x22\x24\x26-\x3e\x40-\x7e]|%[0-9A-Fa-f]{2})*"
_QUERY = rb"(?:\?[\x21\x22\x24-\x7e]*)?"
_REQUEST = re.compile(rb"([A-Z][A-Z0-9_-]*) (/%s%s|\*) HTTP/1\.1" % (_ESCAPED, _QUERY))
_SAFE_NAME = re.compile(rb"[0-9a-z-]+")
_ONCE = (
    b"authorization",
    b"content-type",
    b"origin",
    b"x-forwarded-for",
    b"x-real-ip",
    b"x-request-id",
)
_ANSWER = re.compile(rb"HTTP/1\.1 ([1-9][0-9]{2}) ([\t \x21-\x7e\x80-\xff]*)")
_HOST = re.compile(
    rb"(?:[A-Za-z0-9_~-]+(?:\.[A-Za-z0-9_~-]+)*\.?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?"
)
_DIGITS = re.compile(rb"0|[1-9][0-9]{0,17}")


def assert_request(raw: bytes) -> None:
    """The head and body of one request as it goes to a backend."""
    start, fields, body = _parted(raw)
    assert _REQUEST.fullmatch(start), start
    hosts = _of(fields, b"host")
    assert len(hosts) == 1, hosts
    assert hosts == [b""] or _HOST.fullmatch(hosts[0]), hosts
    _assert_framing(fields, body)
    assert not _of(fields, b"te") or _of(fields, b"te") == [b"trailers"]
    assert all(_SAFE_NAME.fullmatch(name) for name, _ in fields)
    assert all(len(_of(fields, name)) <= 1 for name in _ONCE)
    assert not _of(fields, b"proxy-connection") + _of(fields, b"keep-alive")
    assert b"h2c" not in _of(fields, b"upgrade")
    assert not _of(fields, b"http2-settings")


def assert_answer(raw: bytes) -> None:
    """The head and body of one answer as it goes to a client of HTTP/1.1."""
    start, fields, body = _parted(raw)
    assert _ANSWER.fullmatch(start), start
    assert all(_DIGITS.fullmatch(value) for value in _of(fields, b"content-length"))
    assert not _of(fields, b"proxy-connection") + _of(fields, b"keep-alive")
    status = start.split(b" ")[1]
    if status[:1] == b"1" or status == b"204":
        assert not body
        assert not _of(fields, b"content-length")
        assert not _of(fields, b"transfer-encoding")
    elif body:
        _assert_framing(fields, body)


def _parted(raw: bytes) -> tuple[bytes, list[tuple[bytes, bytes]], bytes]:
    head, end, body = raw.partition(b"\r\n\r\n")
    assert end
    start, *lines = head.split(b"\r\n")
    fields = []
    for line in lines:
        match = _LINE.fullmatch(line)
        assert match, line
        fields.append((match[1].lower(), match[2]))
    return start, fields, body


def _of(fields: list[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    return [value for key, value in fields if key == name]


def _assert_framing(fields: list[tuple[bytes, bytes]], body: bytes) -> None:
    lengths, codings = _of(fields, b"content-length"), _of(fields, b"transfer-encoding")
    assert len(lengths) + len(codings) <= 1, (lengths, codings)
    if codings:
        assert codings[0].lower() == b"chunked"
        _assert_chunks(body)
    elif lengths:
        assert _DIGITS.fullmatch(lengths[0]), lengths
        assert len(body) == int(lengths[0])
    else:
        assert not body


def _assert_chunks(body: bytes) -> None:
    while True:
        line, end, body = body.partition(b"\r\n")
        assert end
        assert re.fullmatch(rb"0|[1-9a-f][0-9a-f]*", line), line
        size = int(line, 16)
        if not size:
            break
        assert body[size : size + 2] == b"\r\n"
        body = body[size + 2 :]
    while body != b"\r\n":
        line, end, body = body.partition(b"\r\n")
        assert end
        assert line
        assert _LINE.fullmatch(line), line
