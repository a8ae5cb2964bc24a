"""Heads parsed by h11, behind a policy on the raw bytes; the only module that imports h11.

h11 forgives bare LF, folded lines and control bytes, and passes them on as its reader saw them. An
edge must not: whatever is not the grammar of RFC 9112 to the byte is refused before h11 sees it.
"""

import re

import h11

from balancer.core.message import BadMessage, RequestHead, ResponseHead

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# RFC 9110 5.5: VCHAR, obs-text, and SP / HTAB inside.
_FIELD_LINES = re.compile(rb"(?:%s:[\t\x20-\x7e\x80-\xff]*\r\n)*\r\n\Z" % _TOKEN)
_REQUEST_LINE = re.compile(rb"%s [\x21-\x7e]+ HTTP/(\d)\.(\d)\r\n" % _TOKEN)
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5]\d\d)(?: [\t\x20-\x7e\x80-\xff]*)?\r\n")
# Nothing optional stands beside the value: such a pattern takes cubic time for a line of blanks.
_TRAILER_LINE = re.compile(rb"(%s):([\t\x20-\x7e\x80-\xff]*)\Z" % _TOKEN)
# h11 takes "5, 5" and a line given twice for one length, and hands on what it made of them.
_LENGTH_LINES = re.compile(rb"\r\ncontent-length:([^\r]*)", re.IGNORECASE)
# Apache stops at 100 fields, HAProxy at 101; more is no browser.
FIELDS_MAX = 128


def parse_request_head(raw: bytes) -> RequestHead:
    """Parse a head with its empty line at the end; BadMessage 400, 431, 501 or 505 otherwise."""
    line = _REQUEST_LINE.match(raw)
    if line is None:
        raise BadMessage(400, "the first line is not: method, space, target, space, HTTP/1.1")
    if line[1] != b"1" or line[2] not in (b"0", b"1"):
        raise BadMessage(505, "only HTTP/1.0 and HTTP/1.1 are spoken here")
    _check_field_lines(raw, line.end(), 400, 431)
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=len(raw) + 1)
    try:
        connection.receive_data(raw)
        event = connection.next_event()
    except h11.RemoteProtocolError as exc:
        raise BadMessage(exc.error_status_hint, f"{exc}") from exc
    assert isinstance(event, h11.Request)
    return RequestHead(
        method=event.method.decode("ascii"),
        target=event.target.decode("ascii"),
        minor=int(line[2]),
        fields=tuple(event.headers.raw_items()),
    )


def parse_response_head(raw: bytes) -> ResponseHead:
    """Parse the head of an answer with its empty line at the end; BadMessage 502 otherwise."""
    line = _STATUS_LINE.match(raw)
    if line is None:
        raise BadMessage(502, "the status line is not: HTTP/1.1, space, three digits, a reason")
    _check_field_lines(raw, line.end(), 502, 502)
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=len(raw) + 1)
    try:
        connection.send(_ASKED)
        connection.send(h11.EndOfMessage())
        connection.receive_data(raw)
        event = connection.next_event()
    except h11.RemoteProtocolError as exc:
        raise BadMessage(502, f"{exc}") from exc
    assert isinstance(event, h11.Response | h11.InformationalResponse)
    return ResponseHead(
        status=event.status_code,
        reason=bytes(event.reason),
        minor=int(line[1]),
        fields=tuple(event.headers.raw_items()),
    )


# The offer to upgrade lets h11 pass a 101 on, so that it is judged where every other status is.
_ASKED = h11.Request(
    method="GET",
    target="/",
    headers=[("Host", "a"), ("Connection", "upgrade"), ("Upgrade", "a")],
)


def parse_trailer_line(line: bytes) -> tuple[bytes, bytes]:
    """One trailer field without its line end; BadMessage 400 otherwise."""
    match = _TRAILER_LINE.match(line)
    if match is None:
        raise BadMessage(400, "a trailer is not a field line")
    return match[1], match[2].strip(b" \t")


def _check_field_lines(raw: bytes, start: int, bad: int, too_many: int) -> None:
    if _FIELD_LINES.match(raw, start) is None:
        raise BadMessage(bad, "a header line is not: name, colon, value, without control bytes")
    if raw.count(b"\r\n", start) > FIELDS_MAX + 1:
        raise BadMessage(too_many, f"more than {FIELDS_MAX} header lines")
    lengths = _LENGTH_LINES.findall(raw)
    if len(lengths) > 1:
        raise BadMessage(bad, "Content-Length is given twice")
    if lengths and not lengths[0].strip(b" \t").isdigit():
        raise BadMessage(bad, "Content-Length is not a plain number of bytes")
