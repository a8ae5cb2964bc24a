"""How other readers take a stream of messages: h11, and httptools, which is llhttp."""

from typing import NamedTuple

import h11
import httptools


class Seen(NamedTuple):
    """One message as somebody has read it: its start line's parts, and its payload."""

    start: tuple[bytes, ...]
    body: bytes


_CANARY = b"GET /canary HTTP/1.1\r\nHost: canary\r\n\r\n"


def request_by_h11(raw: bytes) -> Seen:
    """One request that `raw` is, from its first byte to its last; RemoteProtocolError otherwise."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=len(raw) + 100)
    connection.receive_data(raw + _CANARY)
    seen = _message_of(connection)
    rest, _ = connection.trailing_data
    assert rest == _CANARY, "h11 sees another end"
    return seen


def answer_by_h11(raw: bytes, method: str, *, closed: bool) -> list[Seen]:
    """The answers that `raw` is, interim ones too; RemoteProtocolError otherwise."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=len(raw) + 100)
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(raw)
    if closed:
        connection.receive_data(b"")
    answers = []
    while True:
        event = connection.next_event()
        if isinstance(event, h11.InformationalResponse):
            answers.append(Seen((b"%d" % event.status_code,), b""))
        elif isinstance(event, h11.Response):
            status = b"%d" % event.status_code
            answers.append(Seen((status,), _body_of(connection)))
            assert closed or connection.trailing_data[0] == b"", "h11 sees an earlier end"
            return answers
        else:
            raise h11.RemoteProtocolError(f"{event!r} instead of an answer")


def _message_of(connection: h11.Connection) -> Seen:
    event = connection.next_event()
    if not isinstance(event, h11.Request):
        raise h11.RemoteProtocolError(f"{event!r} instead of a request")
    return Seen((event.method, event.target), _body_of(connection))


def _body_of(connection: h11.Connection) -> bytes:
    body = b""
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return body
        else:
            raise h11.RemoteProtocolError(f"{event!r} within a body")


class Told:
    """The callbacks of httptools; `seen` are the messages that came to their end."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self._target = self._body = b""
        self.parser: httptools.HttpRequestParser | httptools.HttpResponseParser

    def on_message_begin(self) -> None:
        self._target = self._body = b""

    def on_url(self, part: bytes) -> None:
        self._target += part

    def on_body(self, part: bytes) -> None:
        self._body += part

    def on_message_complete(self) -> None:
        parser = self.parser
        if isinstance(parser, httptools.HttpRequestParser):
            start: tuple[bytes, ...] = parser.get_method(), self._target
        else:
            start = (b"%d" % parser.get_status_code(),)
        self.seen.append(Seen(start, self._body))


def requests_by_llhttp(raw: bytes) -> tuple[list[Seen], bool]:
    """The requests that it finds in `raw` before it stops, and whether it took all of `raw`."""
    told = Told()
    told.parser = httptools.HttpRequestParser(told)
    return _told_of(told, raw)


def answers_by_llhttp(raw: bytes) -> tuple[list[Seen], bool]:
    """The same for answers, none of which is to a HEAD: it cannot be told so."""
    told = Told()
    told.parser = httptools.HttpResponseParser(told)
    return _told_of(told, raw)


def _told_of(told: Told, raw: bytes) -> tuple[list[Seen], bool]:
    try:
        told.parser.feed_data(raw)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return told.seen, False
    return told.seen, True
