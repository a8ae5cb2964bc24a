"""A probe that asks over HTTP and judges the answer. The only module that imports httpx.

Each probe makes a connection of its own, since a kept one hides a target that takes no new ones.
Redirects are not followed, proxies of the environment not used, and bodies not decoded.

httpx does the talking, through a transport of ours: one connection for one request, so there is no
pool to keep, and what is left of a probe when it ends is closed here.
"""

import ssl
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache

import httpcore
import httpx
import trio

from healthcheck.core.expectation import (
    BodyWish,
    Expectation,
    StatusRanges,
    containing,
    matching,
)
from healthcheck.core.verdict import Outcome, Verdict
from healthcheck.probing import Probe
from healthcheck.probing.answer import Answer, BodyBroken, judge
from healthcheck.probing.dialing import Line, dial
from healthcheck.probing.faults import verdict_of
from healthcheck.probing.place import Place

# All that an answer, or none, may be met with on the way; anything else is a mistake of ours.
_TROUBLES = (
    OSError,
    trio.BrokenResourceError,
    httpcore.NetworkError,
    httpcore.ProtocolError,
)

FIELDS: Mapping[str, str] = {
    "User-Agent": "balancer-health",
    "Accept": "*/*",
    "Accept-Encoding": "identity",
    "Connection": "close",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpCheck:
    """What is asked and what is expected; the same for all targets of a pool.

    `status`: ranges, both ends included. `host`: the Host field, and with TLS the name that is
    asked for and verified; without it, the address. `body_matches`: a regex, searched anywhere.
    `tls_context`: instead of the system's certificates. `server_name`: the name that TLS asks for and
    verifies, if it is not that of `host`.
    """

    method: str = "GET"
    path: str = "/"
    host: str | None = None
    port: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    status: StatusRanges = ((200, 299),)
    body_contains: str | None = None
    body_matches: str | None = None
    body_limit: int = 64 * 1024
    tls: bool = False
    verify: bool = True
    tls_context: ssl.SSLContext | None = None
    server_name: str | None = None


def http_probe(check: HttpCheck, place: Place) -> Probe:
    """A probe of `place`; `check.port` goes before the port of the place."""
    if check.port is not None and place.path is None:
        place = replace(place, port=check.port)
    request = _request(check, place)
    transport = _Transport(place, _tls_context(check), _server_name(check, request))
    expectation = Expectation(
        status=check.status, body=_body_wish(check), body_limit=check.body_limit
    )

    async def probe() -> Verdict:
        try:
            response = await transport.handle_async_request(request)
        except _TROUBLES as error:
            return _verdict_of(error, place)
        stream = response.stream
        assert isinstance(stream, httpx.AsyncByteStream), "this transport streams"
        coding = response.headers.get("Content-Encoding")
        answer = Answer(status=response.status_code, coding=coding, body=stream)
        try:
            return await judge(answer, expectation)
        finally:
            await stream.aclose()

    return probe


def _body_wish(check: HttpCheck) -> BodyWish | None:
    if check.body_contains is not None:
        return containing(check.body_contains)
    return None if check.body_matches is None else matching(check.body_matches)


def _request(check: HttpCheck, place: Place) -> httpx.Request:
    scheme = "https" if check.tls else "http"
    host = f"[{place.host}]" if ":" in place.host else place.host
    authority = host if place.path is not None else f"{host}:{place.port}"
    headers = httpx.Headers({"Host": authority, **FIELDS})
    headers.update(check.headers)
    if check.host:
        headers["Host"] = check.host
    return httpx.Request(check.method, f"{scheme}://{authority}{check.path}", headers=headers)


def _server_name(check: HttpCheck, request: httpx.Request) -> str:
    """Whom TLS asks for and verifies."""
    if check.server_name is not None:
        return check.server_name
    return httpx.URL(f"https://{check.host}").host if check.host else request.url.host


def _tls_context(check: HttpCheck) -> ssl.SSLContext | None:
    if not check.tls:
        return None
    context = check.tls_context or _shared_context(verify=check.verify)
    context.set_alpn_protocols(["http/1.1"])
    return context


@cache
def _shared_context(*, verify: bool) -> ssl.SSLContext:
    """One for all probes, as reading the system's certificates takes the time of many probes."""
    if verify:
        return ssl.create_default_context()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class _Transport(httpx.AsyncBaseTransport):
    """A transport of httpx with one connection for each request, closed with the answer's stream.

    Raises what it met (`_TROUBLES`) as it is, since only its cause is of interest.
    """

    def __init__(self, place: Place, context: ssl.SSLContext | None, server_name: str) -> None:
        self._place = place
        self._context = context
        self._server_name = server_name

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        line = await dial(self._place, self._context, self._server_name)
        try:
            response = await _ask(line, request)
        except BaseException:
            line.close()
            raise
        return httpx.Response(
            response.status,
            headers=response.headers,
            stream=_Body(response.stream, line, self._place),
        )


async def _ask(line: Line, request: httpx.Request) -> httpcore.Response:
    url = request.url
    asked = httpcore.Request(
        method=request.method,
        url=httpcore.URL(
            scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
        ),
        headers=request.headers.raw,
    )
    connection = httpcore.AsyncHTTP11Connection(asked.url.origin, line)
    return await connection.handle_async_request(asked)


class _Body(httpx.AsyncByteStream):
    """A body as it comes; one that ends before its end is broken, and says why."""

    def __init__(self, stream: object, line: Line, place: Place) -> None:
        assert isinstance(stream, AsyncIterable), "httpcore streams"
        self._stream: AsyncIterable[bytes] = stream
        self._line = line
        self._place = place

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._stream:
                yield chunk
        except httpcore.RemoteProtocolError as error:
            raise BodyBroken("body ended early") from error
        except _TROUBLES as error:
            raise BodyBroken(_verdict_of(error, self._place).reason) from error

    async def aclose(self) -> None:
        self._line.close()


def _verdict_of(error: Exception, place: Place) -> Verdict:
    """The one place that reads errors of httpcore."""
    verdict = verdict_of(error, place.name)
    if verdict is not None:
        return verdict
    match error:
        case httpcore.RemoteProtocolError() if "without sending a response" in str(error):
            return Verdict(Outcome.FAIL, "connection closed without an answer")
        case httpcore.RemoteProtocolError():
            return Verdict(Outcome.FAIL, f"not HTTP: {error}")
        case httpcore.LocalProtocolError():
            return Verdict(Outcome.VOID, f"our own fault: {error}")
        case _:
            return Verdict(Outcome.FAIL, str(error) or type(error).__name__)
