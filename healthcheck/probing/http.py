"""A probe that asks over HTTP and judges the answer. The only module that imports httpx.

Each probe makes a connection of its own, since a kept one hides a target that takes no new ones.
Redirects are not followed, proxies of the environment not used, and bodies not decoded.

httpx does the talking, on connections of ours: its own engine resolves and races even a literal
address, and wraps each read and write in a scope without a deadline. A probe has one deadline for
everything, and this way costs half the CPU.
"""

import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

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
from healthcheck.probing.faults import verdict_of
from healthcheck.probing.place import Place, connect

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
    `tls_context`: instead of the system's certificates.
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


def http_probe(check: HttpCheck, place: Place) -> Probe:
    """A probe of `place`; `check.port` goes before the port of the place."""
    if check.port is not None and place.path is None:
        place = Place(host=place.host, port=check.port)
    transport = _Transport(place, _tls_context(check))
    request = _request(check, place)
    expectation = Expectation(
        status=check.status, body=_body_wish(check), body_limit=check.body_limit
    )

    async def probe() -> Verdict:
        try:
            response = await transport.handle_async_request(request)
            try:
                return await judge(_answer(response, place), expectation)
            finally:
                with trio.CancelScope(shield=True):  # closes a socket, waits for nobody
                    await response.aclose()
        except httpx.TransportError as error:
            return _verdict_of(error, place)

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
    request = httpx.Request(check.method, f"{scheme}://{authority}{check.path}", headers=headers)
    if check.host:
        request.extensions["sni_hostname"] = httpx.URL(f"{scheme}://{check.host}").host
    return request


def _tls_context(check: HttpCheck) -> ssl.SSLContext:
    return check.tls_context or _shared_context(verify=check.tls and check.verify)


@cache
def _shared_context(*, verify: bool) -> ssl.SSLContext:
    """One for all probes, as reading the system's certificates takes the time of many probes."""
    if verify:
        return ssl.create_default_context()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _answer(response: httpx.Response, place: Place) -> Answer:
    return Answer(
        status=response.status_code,
        coding=response.headers.get("Content-Encoding"),
        body=_body(response.stream, place),
    )


async def _body(stream: object, place: Place) -> AsyncIterator[bytes]:
    assert isinstance(stream, httpx.AsyncByteStream), "this transport streams"
    try:
        async for chunk in stream:
            yield chunk
    except httpx.RemoteProtocolError as error:
        raise BodyBroken("body ended early") from error
    except httpx.TransportError as error:
        raise BodyBroken(_verdict_of(error, place).reason) from error


def _verdict_of(error: httpx.TransportError, place: Place) -> Verdict:
    """The one place that reads errors of httpx."""
    verdict = verdict_of(error, place.name)
    if verdict is not None:
        return verdict
    match error:
        case httpx.RemoteProtocolError() if "without sending a response" in str(error):
            return Verdict(Outcome.FAIL, "connection closed without an answer")
        case httpx.RemoteProtocolError():
            return Verdict(Outcome.FAIL, f"not HTTP: {error}")
        case httpx.LocalProtocolError():
            return Verdict(Outcome.VOID, f"our own fault: {error}")
        case _:
            return Verdict(Outcome.FAIL, str(error) or type(error).__name__)


class _Transport(httpx.AsyncHTTPTransport):
    """The transport of httpx with connections made our way, none of them kept."""

    def __init__(self, place: Place, context: ssl.SSLContext) -> None:
        # Not super().__init__(): it makes the same pool, but lets no network backend in.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context,
            max_connections=None,
            max_keepalive_connections=0,
            network_backend=_Dialer(place),
        )


class _Dialer(httpcore.AsyncNetworkBackend):
    """Connects to one place, whatever host and port the URL names."""

    def __init__(self, place: Place) -> None:
        self._place = place

    async def connect_tcp(
        self,
        host: str,  # noqa: ARG002  # the signatures are httpcore's
        port: int,  # noqa: ARG002
        timeout: float | None = None,  # noqa: ARG002, ASYNC109
        local_address: str | None = None,  # noqa: ARG002
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002
    ) -> httpcore.AsyncNetworkStream:
        try:
            return _Connection(await connect(self._place))
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error


class _Connection(httpcore.AsyncNetworkStream):
    def __init__(self, stream: trio.SocketStream | trio.SSLStream[trio.SocketStream]) -> None:
        self._stream = stream

    async def read(
        self,
        max_bytes: int,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109
    ) -> bytes:
        try:
            return bytes(await self._stream.receive_some(max_bytes))
        except trio.BrokenResourceError as error:
            raise httpcore.ReadError(str(error)) from error

    async def write(
        self,
        buffer: bytes,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109
    ) -> None:
        try:
            await self._stream.send_all(buffer)
        except trio.BrokenResourceError as error:
            raise httpcore.WriteError(str(error)) from error

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109
    ) -> httpcore.AsyncNetworkStream:
        assert isinstance(self._stream, trio.SocketStream), "TLS is begun once"
        secured = trio.SSLStream(
            self._stream, ssl_context, server_hostname=server_hostname, https_compatible=True
        )
        try:
            await secured.do_handshake()
        except BaseException as error:
            await trio.aclose_forcefully(self._stream)
            if isinstance(error, trio.BrokenResourceError):
                raise httpcore.ConnectError(str(error)) from error
            raise
        return _Connection(secured)

    def get_extra_info(self, info: str) -> Any:  # noqa: ARG002
        return None
