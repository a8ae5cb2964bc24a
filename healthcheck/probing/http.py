"""A probe that asks over HTTP and judges the answer. The only module that imports httpx.

Each probe makes a connection of its own, since a kept one hides a target that takes no new ones.
Redirects are not followed, proxies of the environment not used, and bodies not decoded.

httpx does the talking, over one connection of ours (see `dialing`): nothing is pooled, so nothing
is kept, and what is left of a probe when it ends is closed here.
"""

import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
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
from healthcheck.probing.dialing import Dialer
from healthcheck.probing.faults import verdict_of
from healthcheck.probing.place import Place

_PORTS = {"http": 80, "https": 443}

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
    context = _tls_context(check)
    request = _request(check, place)
    url = request.url
    origin = httpcore.Origin(url.raw_scheme, url.raw_host, url.port or _PORTS[url.scheme])
    expectation = Expectation(
        status=check.status, body=_body_wish(check), body_limit=check.body_limit
    )

    async def probe() -> Verdict:
        connection = httpcore.AsyncHTTPConnection(origin, context, network_backend=Dialer(place))
        try:
            response = await _Transport(connection).handle_async_request(request)
            return await judge(_answer(response, place), expectation)
        except httpx.TransportError as error:
            return _verdict_of(error, place)
        finally:
            with trio.CancelScope(shield=True):  # closes a socket, waits for nobody
                await connection.aclose()

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
    """The transport of httpx over one connection instead of a pool of them."""

    def __init__(self, connection: httpcore.AsyncHTTPConnection) -> None:
        # Not super().__init__(): it makes a pool. Of that, only `handle_async_request` is used.
        self._pool = connection  # type: ignore[assignment]
