"""Probes against real sockets on the loopback interface, well and unwell."""

import errno
import os
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trustme

from healthcheck.core.verdict import Outcome, Verdict
from healthcheck.probing import Probe
from healthcheck.probing.faults import verdict_of
from healthcheck.probing.http import HttpCheck, http_probe
from healthcheck.probing.place import Place
from healthcheck.probing.tcp import tcp_probe
from tests.support.real_balancer import free_port

Script = Callable[[trio.SocketStream], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def test_an_expected_status_passes() -> None:
    assert await http_verdict(says(OK)) == passed("status 200")


@pytest.mark.parametrize(
    ("status", "expected", "words"),
    [
        (503, ((200, 299),), "status 503, expected 200-299"),
        (302, ((200, 299),), "status 302, expected 200-299"),
        (418, ((200, 299), (404, 404)), "status 418, expected 200-299, 404"),
    ],
)
async def test_an_unexpected_status_is_named(
    status: int, expected: tuple[tuple[int, int], ...], words: str
) -> None:
    answer = f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\nLocation: /elsewhere\r\n\r\n".encode()
    assert await http_verdict(says(answer), HttpCheck(status=expected)) == failed(words)


async def test_what_is_asked() -> None:
    heard: list[bytes] = []

    async def note(stream: trio.SocketStream) -> None:
        heard.append(await head_of(stream))
        await stream.send_all(OK)

    check = HttpCheck(
        method="HEAD",
        path="/up?deep=1",
        host="app.example:81",
        headers={"X-Probe": "1", "accept": "text/plain"},
    )
    await http_verdict(note, check)
    lines = heard[0].decode().split("\r\n")
    assert lines[0] == "HEAD /up?deep=1 HTTP/1.1"
    assert {line.lower() for line in lines[1:] if line} == {
        "host: app.example:81",
        "user-agent: balancer-health",
        "accept: text/plain",
        "accept-encoding: identity",
        "connection: close",
        "x-probe: 1",
    }


async def test_without_a_host_the_address_is_named() -> None:
    heard: list[bytes] = []

    async def note(stream: trio.SocketStream) -> None:
        heard.append(await head_of(stream))
        await stream.send_all(OK)

    async with backend(note) as place:
        await http_probe(HttpCheck(), place)()
        assert f"Host: 127.0.0.1:{place.port}".encode() in heard[0]


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert await http_verdict(says(OK)) == passed("status 200")


async def test_the_port_of_the_check_goes_first() -> None:
    async with backend(says(OK)) as place:
        probe = http_probe(HttpCheck(port=place.port), Place(host="127.0.0.1", port=1))
        assert await probe() == passed("status 200")


async def test_a_name_and_a_unix_socket_and_ipv6_are_places(tmp_path: object) -> None:
    path = f"{tmp_path}/b.sock"
    async with backend(says(OK)) as place:
        named = Place(host="localhost", port=place.port)
        assert await http_probe(HttpCheck(), named)() == passed("status 200")
        assert await tcp_probe(named)() == passed("connected")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        async with serving(
            trio.SocketListener(trio.socket.from_stdlib_socket(listening)), says(OK)
        ):
            at_path = Place(path=path)
            assert await http_probe(HttpCheck(), at_path)() == passed("status 200")
            assert await tcp_probe(at_path)() == passed("connected")
    assert await tcp_probe(Place(path=f"{tmp_path}/no"))() == failed("no such socket")


async def test_ipv6_is_written_in_brackets() -> None:
    heard: list[bytes] = []

    async def note(stream: trio.SocketStream) -> None:
        heard.append(await head_of(stream))
        await stream.send_all(OK)

    try:
        listeners = await trio.open_tcp_listeners(0, host="::1")
    except OSError:
        pytest.skip("no IPv6 loopback here")
    async with serving(listeners[0], note):
        port = listeners[0].socket.getsockname()[1]
        await http_probe(HttpCheck(), Place(host="::1", port=port))()
    assert f"Host: [::1]:{port}".encode() in heard[0]


# ---- unwell on the way -------------------------------------------------------------------------


async def test_nobody_listens() -> None:
    place = Place(host="127.0.0.1", port=free_port())
    assert await http_probe(HttpCheck(), place)() == failed("connect refused")
    assert await tcp_probe(place)() == failed("connect refused")
    by_name = Place(host="localhost", port=place.port)  # every address of it refuses
    assert await tcp_probe(by_name)() == failed("connect refused")


async def test_a_reset_is_called_so() -> None:
    async def reset(stream: trio.SocketStream) -> None:
        await head_of(stream)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await stream.aclose()

    assert await http_verdict(reset) == failed("connection reset")


async def test_closing_without_an_answer() -> None:
    assert await http_verdict(says(b"")) == failed("connection closed without an answer")


async def test_garbage_is_not_http() -> None:
    verdict = await http_verdict(says(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"))
    assert verdict.outcome is Outcome.FAIL
    assert verdict.reason.startswith("not HTTP: ")


async def test_a_head_without_end_is_given_up() -> None:
    """The probe stops by itself, long before the backend does."""

    async def chatter(stream: trio.SocketStream) -> None:
        await stream.send_all(b"HTTP/1.1 200 OK\r\n")
        while True:
            await stream.send_all(b"X-Filler: " + b"x" * 8192 + b"\r\n")

    verdict = await http_verdict(chatter)
    assert verdict.reason.startswith("not HTTP: ")


async def test_silence_is_left_to_the_deadline_and_leaves_no_socket() -> None:
    async def silent(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        assert await stream.receive_some() == b"", "the probe closed"
        closed.set()

    closed = trio.Event()
    async with backend(silent) as place:
        with trio.move_on_after(0.05) as scope:
            await http_probe(HttpCheck(), place)()
        assert scope.cancelled_caught
        with trio.fail_after(5):
            await closed.wait()


async def test_a_name_that_is_not_known() -> None:
    resolver(socket.gaierror(socket.EAI_NONAME, "Name or service not known"))
    place = Place(host="foo.test", port=80)
    assert await http_probe(HttpCheck(), place)() == failed("name not known: foo.test")
    assert await tcp_probe(place)() == failed("name not known: foo.test")


async def test_a_resolver_in_trouble_blames_nobody() -> None:
    resolver(socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"))
    verdict = await http_probe(HttpCheck(), Place(host="foo.test", port=80))()
    assert verdict.says_nothing
    assert verdict.reason == (
        "our own fault: name lookup of foo.test failed: Temporary failure in name resolution"
    )


async def test_out_of_descriptors_blames_nobody() -> None:
    async with backend(says(OK)) as place:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            verdicts = [await http_probe(HttpCheck(), place)(), await tcp_probe(place)()]
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert verdicts == [Verdict(Outcome.VOID, "our own fault: out of file descriptors")] * 2


def test_our_fault_goes_before_that_of_the_place() -> None:
    """One address of a name refused; for the other we had no descriptor."""
    both = ExceptionGroup(
        "", [OSError(errno.ECONNREFUSED, "refused"), OSError(errno.EMFILE, "too many")]
    )
    verdict = verdict_of(both, "foo.test")
    assert verdict is not None
    assert verdict.says_nothing
    assert verdict_of(ValueError("no error of the network"), "foo.test") is None
    assert verdict_of(OSError(errno.ENOTCONN, "x"), "") == failed(
        os.strerror(errno.ENOTCONN).lower()
    )


# ---- bodies --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("check", "body", "words"),
    [
        (HttpCheck(body_contains="ok"), b"all ok", None),
        (HttpCheck(body_contains="ok"), b"down", 'body does not contain "ok"'),
        (HttpCheck(body_matches="^o.?k$"), b"ok", None),
        (HttpCheck(body_matches="^ok$"), b"not ok", 'body does not match "^ok$"'),
        (HttpCheck(body_contains="grün"), "grün".encode(), None),
    ],
)
async def test_a_body_is_searched(check: HttpCheck, body: bytes, words: str | None) -> None:
    verdict = await http_verdict(says(with_body(body)), check)
    assert verdict == (passed("status 200") if words is None else failed(words))


async def test_a_text_across_two_reads_is_found() -> None:
    async def halting(stream: trio.SocketStream) -> None:
        await head_of(stream)
        await stream.send_all(with_body(b"all ok, more to come")[:-16])
        await trio.sleep(0.02)
        await stream.send_all(b"ok")
        await stream.receive_some()  # never sends the rest: the probe has seen enough

    assert await http_verdict(halting, HttpCheck(body_contains="all ok")) == passed("status 200")


async def test_a_huge_body_is_read_to_the_limit_and_no_further() -> None:
    sent = 0

    async def huge(stream: trio.SocketStream) -> None:
        nonlocal sent
        await head_of(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
        try:
            while True:
                await stream.send_all(b"x" * 65536)
                sent += 65536
        except trio.BrokenResourceError:
            ended.set()

    for check, expected in (
        (HttpCheck(body_contains="ok"), 'body does not contain "ok" in the first 65536 bytes'),
        (HttpCheck(body_matches="ok"), 'body does not match "ok" in the first 65536 bytes'),
        (HttpCheck(), None),
    ):
        ended = trio.Event()
        verdict = await http_verdict(huge, check, until=ended)
        assert verdict == (passed("status 200") if expected is None else failed(expected))
    assert sent < 3 * 16_000_000, "socket buffers are all that was filled"


async def test_a_slow_drip_does_not_hold_up_a_check_that_asks_for_no_body() -> None:
    async def drip(stream: trio.SocketStream) -> None:
        await head_of(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        try:
            while True:
                await stream.send_all(b".")
                await trio.sleep(0.01)
        except trio.BrokenResourceError:
            pass

    assert await http_verdict(drip) == passed("status 200")


async def test_a_broken_body_matters_only_where_it_was_asked_for() -> None:
    short = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort"
    assert await http_verdict(says(short)) == passed("status 200")
    assert await http_verdict(says(short), HttpCheck(body_matches="o")) == failed(
        "body ended early"
    )

    async def reset(stream: trio.SocketStream) -> None:
        await head_of(stream)
        await stream.send_all(short)
        await trio.sleep(0.02)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await stream.aclose()

    assert await http_verdict(reset) == passed("status 200")
    assert await http_verdict(reset, HttpCheck(body_contains="x")) == failed("connection reset")


async def test_an_encoded_body_is_not_decoded_but_named() -> None:
    answer = (
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00"
    )
    assert await http_verdict(says(answer), HttpCheck(body_contains="ok")) == failed(
        'body does not contain "ok" (it came in gzip, which was not asked for)'
    )


async def test_chunked_and_close_delimited_bodies_are_bodies() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    for answer in (chunked, b"HTTP/1.0 200 OK\r\n\r\nok"):
        verdict = await http_verdict(says(answer), HttpCheck(body_matches="^ok$"))
        assert verdict == passed("status 200")


# ---- TLS -----------------------------------------------------------------------------------------


async def test_tls_is_verified_or_not_as_asked() -> None:
    authority = trustme.CA()
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with backend(says(OK), tls=authority.issue_cert("app.example")) as place:

        async def verdict(check: HttpCheck) -> Verdict:
            return await http_probe(check, place)()

        unknown = await verdict(HttpCheck(tls=True, host="app.example"))
        assert unknown.outcome is Outcome.FAIL
        assert unknown.reason.startswith("TLS: certificate verify failed: ")
        assert await verdict(HttpCheck(tls=True, verify=False)) == passed("status 200")
        known = HttpCheck(tls=True, host="app.example:443", tls_context=trusting)
        assert await verdict(known) == passed("status 200")
        other = await verdict(HttpCheck(tls=True, host="other.example", tls_context=trusting))
        assert other.reason.startswith("TLS: certificate verify failed: Hostname mismatch")


async def test_tls_names_the_host_it_asks_for() -> None:
    asked: list[object] = []
    certificate = trustme.CA().issue_cert("app.example")
    async with backend(says(OK), tls=certificate, sni=asked.append) as place:
        check = HttpCheck(tls=True, verify=False, host="app.example:8443")
        await http_probe(check, place)()
        await http_probe(HttpCheck(tls=True, verify=False), place)()
    assert asked == ["app.example", None]  # an address is never a server name


async def test_tls_with_a_backend_that_speaks_none() -> None:
    async def plain(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    verdict = await http_verdict(plain, HttpCheck(tls=True, verify=False))
    assert verdict == failed("TLS: wrong version number")


# ---- the backends --------------------------------------------------------------------------------


def passed(reason: str) -> Verdict:
    return Verdict(Outcome.PASS, reason)


def failed(reason: str) -> Verdict:
    return Verdict(Outcome.FAIL, reason)


def with_body(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body


async def http_verdict(
    script: Script, check: HttpCheck | None = None, until: trio.Event | None = None
) -> Verdict:
    """The verdict on a backend that goes by `script`; then waits for `until`."""
    async with backend(script) as place:
        probe: Probe = http_probe(check or HttpCheck(), place)
        with trio.fail_after(5):
            verdict = await probe()
            if until is not None:
                await until.wait()
        return verdict


def says(answer: bytes) -> Script:
    async def script(stream: trio.abc.Stream) -> None:
        await head_of(stream)
        await stream.send_all(answer)

    return script


async def head_of(stream: trio.abc.Stream) -> bytes:
    head = bytearray()
    while not head.endswith(b"\r\n\r\n"):
        received = await stream.receive_some()
        if not received:
            break
        head += received
    return bytes(head)


@asynccontextmanager
async def backend(
    script: Script,
    *,
    tls: trustme.LeafCert | None = None,
    sni: Callable[[object], None] | None = None,
) -> AsyncIterator[Place]:
    """A backend on the loopback interface that does `script` with each connection."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    place = Place(host="127.0.0.1", port=listener.socket.getsockname()[1])
    context: ssl.SSLContext | None = None
    if tls is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.configure_cert(context)
        if sni is not None:
            context.sni_callback = lambda _socket, name, _context: sni(name)
    async with serving(listener, script, context):
        yield place


@asynccontextmanager
async def serving(
    listener: trio.SocketListener, script: Script, context: ssl.SSLContext | None = None
) -> AsyncIterator[None]:
    async def serve(stream: trio.SocketStream) -> None:
        served: object = stream
        if context is not None:
            served = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        try:
            await script(served)  # type: ignore[arg-type]
        except trio.BrokenResourceError:
            pass  # the probe did not like what it saw
        await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield
        nursery.cancel_scope.cancel()


def resolver(error: OSError) -> None:
    """Every lookup of a name ends in `error`, within this run of trio."""

    class Failing(trio.abc.HostnameResolver):
        async def getaddrinfo(self, *arguments: object, **options: object) -> list[object]:  # type: ignore[override]
            raise error

        async def getnameinfo(self, *arguments: object) -> tuple[str, str]:
            raise error

    trio.socket.set_custom_hostname_resolver(Failing())


# ---- what is sent first --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["http", "tcp"])
async def test_a_greeting_comes_before_anything_else(kind: str) -> None:
    heard: list[bytes] = []

    async def note(stream: trio.SocketStream) -> None:
        while not heard or (kind == "http" and b"\r\n\r\n" not in heard[0]):
            heard[:] = [b"".join(heard) + await stream.receive_some()]
        complete.set()
        await stream.send_all(OK)

    complete = trio.Event()
    async with backend(note) as place:
        greeted = Place(host=place.host, port=place.port, greeting=b"PROXY UNKNOWN\r\n")
        probe = tcp_probe(greeted) if kind == "tcp" else http_probe(HttpCheck(), greeted)
        assert (await probe()).outcome is Outcome.PASS
        with trio.fail_after(5):
            await complete.wait()
    rest = b"" if kind == "tcp" else b"GET / HTTP/1.1\r\n"
    assert heard[0].startswith(b"PROXY UNKNOWN\r\n" + rest)
