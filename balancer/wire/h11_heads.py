"""Heads parsed by h11, behind a policy on the raw bytes; the only module that imports h11.

h11 forgives bare LF, folded lines and control bytes, and passes them on as its reader saw them. An
edge must not: whatever is not the grammar of RFC 9112 to the byte, or frames its body in more than
one way, is refused before h11 sees it. The head is what h11 then makes of it.
"""

import re

import h11

from balancer.core.framing import request_framing, response_framing
from balancer.core.message import TOKEN, BadMessage, Fields, RequestHead, ResponseHead

# RFC 9110 5.5: VCHAR, obs-text, and SP / HTAB inside.
_FIELD_LINES = re.compile(rb"(?:%s:[\t\x20-\x7e\x80-\xff]*\r\n)*\r\n\Z" % TOKEN)
_REQUEST_LINE = re.compile(rb"%s [\x21-\x7e]+ HTTP/([0-9])\.([0-9])\r\n" % TOKEN)
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5]\d\d)(?: [\t\x20-\x7e\x80-\xff]*)?\r\n")
# Nothing optional stands beside the value: such a pattern takes cubic time for a line of blanks.
_TRAILER_LINE = re.compile(rb"(%s):([\t\x20-\x7e\x80-\xff]*)\Z" % TOKEN)
# h11 takes "5, 5" and a line given twice for one length, and a length beside chunks, and hands on
# what it made of them.
_FRAMING_LINES = re.compile(rb"\r\n(content-length|transfer-encoding):([^\r]*)", re.IGNORECASE)
# Apache stops at 100 fields, HAProxy at 101; more is no browser.
FIELDS_MAX = 128


def check_request_line(raw: bytes) -> re.Match[bytes]:
    """The request line that `raw` begins with; BadMessage 400 or 505 otherwise."""
    line = _REQUEST_LINE.match(raw)
    if line is None:
        raise BadMessage(400, "the first line is not: method, space, target, space, HTTP/1.1")
    if line[1] != b"1" or line[2] not in (b"0", b"1"):
        raise BadMessage(505, "only HTTP/1.0 and HTTP/1.1 are spoken here")
    return line


def check_status_line(raw: bytes) -> re.Match[bytes]:
    """The status line that `raw` begins with; BadMessage 502 otherwise."""
    line = _STATUS_LINE.match(raw)
    if line is None:
        raise BadMessage(502, "the status line is not: HTTP/1.1, space, three digits, a reason")
    return line


def parse_request_head(raw: bytes, fields_max: int = FIELDS_MAX) -> RequestHead:
    """Parse a head with its empty line at the end; BadMessage 400, 431, 501 or 505 otherwise."""
    line = check_request_line(raw)
    _check_field_lines(raw, line.end(), 400, 431, fields_max)
    minor = int(line[2])
    request_framing(RequestHead(method="", target="", minor=minor, fields=_framing_fields(raw)))
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
        minor=minor,
        fields=tuple(event.headers.raw_items()),
    )


def parse_response_head(raw: bytes) -> ResponseHead:
    """Parse the head of an answer with its empty line at the end; BadMessage 502 otherwise."""
    line = check_status_line(raw)
    _check_field_lines(raw, line.end(), 502, 502, FIELDS_MAX)
    minor, framing = int(line[1]), _framing_fields(raw)
    # What is wrong whatever was asked for; the rest is judged where that is known.
    response_framing(
        ResponseHead(status=int(line[2]), reason=b"", minor=minor, fields=framing), "HEAD"
    )
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
        minor=minor,
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


def _check_field_lines(raw: bytes, start: int, bad: int, too_many: int, most: int) -> None:
    if _FIELD_LINES.match(raw, start) is None:
        raise BadMessage(bad, "a header line is not: name, colon, value, without control bytes")
    if raw.count(b"\r\n", start) > most + 1:
        raise BadMessage(too_many, f"more than {most} header lines")


def _framing_fields(raw: bytes) -> Fields:
    return tuple((name, value.strip(b" \t")) for name, value in _FRAMING_LINES.findall(raw))
