"""TLS with clients: certificates by name, client certificates, 421, redirects and HSTS."""

import ssl
from contextlib import AbstractAsyncContextManager

import pytest
import structlog
import trio
from trio.testing import MockClock

from balancer.wire.proxy_protocol import Ends, header
from balancer.wire.tls_socket import Coded, TlsBroken
from tests.support.certificates import (
    client_context,
    files_for,
    with_client_certificate,
)
from tests.support.edge_client import EdgeClient, NoAnswer
from tests.support.scene import Scene, scene
from tests.support.scripted_http import Line, Request
from tests.support.virtual_backend import Script, answers, answers_until_end

pytestmark = pytest.mark.usefixtures("either_way")

OF = Ends("203.0.113.7", 51000, "198.51.100.2", 443)
FILES = {"main": "a.test", "wild": "*.b.test b.test", "other": "c.test"}


def listener(more: str = "") -> str:
    listed = ", ".join(f'{{ certificate = "/{name}.pem", key = "/{name}.key" }}' for name in FILES)
    return f"""
[[listeners]]
bind = "127.0.0.1:8443"
[listeners.tls]
certificates = [{listed}]
{more}
"""


def play_scene(more: str = "") -> AbstractAsyncContextManager[Scene]:
    return scene({"a": answers(200, b"hello")}, top=listener(more), files=files_for(**FILES))


async def client_of(
    play: Scene, name: str | None = "a.test", context: ssl.SSLContext | None = None
) -> EdgeClient:
    client = await EdgeClient.connect(play.network, 8443)
    try:
        await client.speak_tls(context or client_context(), name)
    except BaseException:
        client.close()
        raise
    return client


def told(play: Scene, name: str) -> list[str | None]:
    return [request.header(name) for request in play.backends["a"].requests]


async def test_requests_come_and_go_as_without_tls(autojump_clock: MockClock) -> None:
    async with play_scene() as play:
        client = await client_of(play)
        for _ in range(3):
            assert (await client.get()).body == b"hello"
        assert told(play, "x-forwarded-proto") == ["https"] * 3
        assert told(play, "x-client-cert-verify") == [None] * 3
        assert [record.tls for record in play.stage.access] == ["TLSv1.3"] * 3
        client.close()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a.test", "a.test"),
        ("A.Test", "a.test"),
        ("b.test", "*.b.test"),
        ("x.b.test", "*.b.test"),
        ("c.test", "c.test"),
        ("y.x.b.test", "a.test"),
        ("unknown.test", "a.test"),
        (None, "a.test"),
    ],
)
async def test_the_certificate_is_that_of_the_name_or_the_first(
    autojump_clock: MockClock, name: str | None, shown: str
) -> None:
    context = client_context()
    context.check_hostname = False
    async with play_scene() as play:
        client = await client_of(play, name, context)
        assert isinstance(client.sock, Coded)
        seen = client.sock.engine.getpeercert(False)
        assert seen["subjectAltName"][0] == ("DNS", shown)
        client.close()


async def test_an_unknown_name_is_refused_where_that_is_said(autojump_clock: MockClock) -> None:
    async with play_scene('unknown_name = "refuse"') as play:
        with pytest.raises(TlsBroken, match="unrecognized name"):
            await client_of(play, "unknown.test")
        assert (await (await client_of(play)).get()).status == 200


@pytest.mark.parametrize(
    ("name", "host", "status"),
    [
        ("a.test", "a.test", 200),
        ("a.test", "a.test:8443", 200),
        ("a.test", "A.TEST.", 200),
        ("b.test", "x.b.test", 200),
        ("a.test", "c.test", 421),
        ("c.test", "a.test", 421),
        ("a.test", "x.b.test", 421),
        ("a.test", "nobodys.test", 200),
        ("a.test", "[::1]:80", 200),
    ],
)
async def test_a_host_of_another_certificate_is_misdirected(
    autojump_clock: MockClock, name: str, host: str, status: int
) -> None:
    """RFC 9110 15.5.20."""
    async with play_scene() as play:
        client = await client_of(play, name)
        for _ in range(2):
            assert (await client.get(host=host)).status == status
        client.close()


@pytest.mark.parametrize(("host", "status"), [("a.test", 200), ("nobodys.test", 421)])
async def test_where_clients_show_certificates_every_other_host_is_misdirected(
    autojump_clock: MockClock, host: str, status: int
) -> None:
    async with play_scene('client_auth = "optional"\nclient_ca = "/ca.pem"') as play:
        client = await client_of(play)
        assert (await client.get(host=host)).status == status
        client.close()


@pytest.mark.parametrize("name", ["a.test", "c.test"])
async def test_who_must_show_a_certificate_and_does_not_is_refused(
    autojump_clock: MockClock, name: str
) -> None:
    """Whatever certificate was chosen: the demand is the listener's."""
    async with play_scene('client_auth = "required"\nclient_ca = "/ca.pem"') as play:
        with pytest.raises((TlsBroken, NoAnswer)):
            await (await client_of(play, name)).get(host=name)
        client = await client_of(play, name, with_client_certificate(client_context()))
        assert (await client.get(host=name)).status == 200
        client.close()


FORGED = (
    "X-Client-Cert-Subject: CN=root",
    "X-Client-Cert-Verify: SUCCESS",
    "X_Client_Cert_Subject: CN=root",
    "Client-Cert: :MIIC:",
)


@pytest.mark.parametrize("mode", ["optional", "required"])
async def test_the_backend_is_told_whose_certificate_it_was_and_by_nobody_else(
    autojump_clock: MockClock, mode: str
) -> None:
    async with play_scene(f'client_auth = "{mode}"\nclient_ca = "/ca.pem"') as play:
        client = await client_of(play, context=with_client_certificate(client_context()))
        await client.get("/", *FORGED)
        request = play.backends["a"].requests[-1]
        assert request.header("x-client-cert-verify") == "SUCCESS"
        subject = request.header("x-client-cert-subject")
        assert subject
        assert "O=trustme" in subject
        assert len(request.header("x-client-cert-fingerprint") or "") == 64
        assert request.header("x-client-cert-serial")
        assert request.raw.lower().count(b"\r\nx-client-cert-") == 4
        assert b"root" not in request.raw
        client.close()


@pytest.mark.parametrize(
    "more", ["", 'client_auth = "optional"\nclient_ca = "/ca.pem"'], ids=["off", "optional"]
)
async def test_who_shows_no_certificate_cannot_say_that_he_has(
    autojump_clock: MockClock, more: str
) -> None:
    async with play_scene(more) as play:
        client = await client_of(play)
        await client.get("/", *FORGED)
        request = play.backends["a"].requests[-1]
        assert request.header("x-client-cert-verify") == ("NONE" if more else None)
        assert request.header("x-client-cert-subject") is None
        assert request.raw.lower().count(b"cert") == bool(more)
        client.close()


async def test_a_session_is_resumed_and_its_certificate_with_it(autojump_clock: MockClock) -> None:
    context = with_client_certificate(client_context())
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # which brings its ticket in the handshake
    async with play_scene('client_auth = "required"\nclient_ca = "/ca.pem"') as play:
        client = await client_of(play, context=context)
        assert isinstance(client.sock, Coded)
        session = client.sock.engine.session
        await client.get()
        client.close()
        again = await EdgeClient.connect(play.network, 8443)
        await again.speak_tls(context, "a.test", session)
        assert (await again.get()).status == 200
        assert isinstance(again.sock, Coded)
        assert again.sock.engine.session_reused
        assert told(play, "x-client-cert-verify") == ["SUCCESS"] * 2
        again.close()


async def test_who_says_nothing_is_let_go_at_the_deadline(autojump_clock: MockClock) -> None:
    async with play_scene('handshake_timeout = "3s"') as play:
        client = await EdgeClient.connect(play.network, 8443)
        began = trio.current_time()
        assert await client.receive() == b""
        assert trio.current_time() - began == pytest.approx(3)
        assert play.stage.worker.turned_away.count == 1
        client.close()


async def test_requests_are_sent_to_https_where_that_is_said(autojump_clock: MockClock) -> None:
    """RFC 9110 15.4.9: of any method, to the same path and query."""
    top = '[[listeners]]\nbind = "127.0.0.1:8081"\nhttps_redirect = 8443\n'
    async with scene({"a": answers(200)}, top=top) as play:
        client = await EdgeClient.connect(play.network, 8081)
        for method in ("GET", "HEAD", "POST"):
            await client.send(
                f"{method} /x%20y?q=1 HTTP/1.1\r\nHost: a.test:8081\r\nContent-Length: 0\r\n\r\n".encode()
            )
            answer = await client.answer(method)
            assert answer.status == 308
            assert answer.header("location") == "https://a.test:8443/x%20y?q=1"
        await client.send(b"GET / HTTP/1.1\r\nHost: a.test/evil\r\n\r\n")
        assert (await client.answer()).status == 400
        assert play.backends["a"].requests == []
        client.close()


async def test_browsers_are_told_to_use_https_alone(autojump_clock: MockClock) -> None:
    """RFC 6797 7.1: with every answer over TLS, ours included, once."""
    async with play_scene('hsts = "365d"\nhsts_subdomains = true') as play:
        client = await client_of(play)
        wanted = "max-age=31536000; includeSubDomains"
        for host in ("a.test", "c.test"):
            answer = await client.get(host=host)
            assert answer.header("strict-transport-security") == wanted
        plain = await EdgeClient.connect(play.network)
        assert (await plain.get()).header("strict-transport-security") is None
        client.close()
        plain.close()


async def test_what_the_backend_says_of_https_stands(autojump_clock: MockClock) -> None:
    own = answers(200, b"x", headers=(("Strict-Transport-Security", "max-age=0"),))
    top = listener('hsts = "1d"')
    async with scene({"a": own}, top=top, files=files_for(**FILES)) as play:
        client = await client_of(play)
        for _ in range(2):
            answer = await client.get()
            assert answer.head.lower().count(b"strict-transport-security") == 1
            assert answer.header("strict-transport-security") == "max-age=0"
        client.close()


async def test_absolute_targets_are_of_https_here(autojump_clock: MockClock) -> None:
    """RFC 9112 3.3."""
    async with play_scene() as play:
        client = await client_of(play)
        assert (await client.get("https://a.test:443/x")).status == 200
        assert play.backends["a"].requests[-1].target == "/x"
        assert (await client.get("http://a.test/x")).status == 400
        client.close()


async def test_a_proxy_header_comes_before_tls(autojump_clock: MockClock) -> None:
    """proxy-protocol.txt 2: the header is in clear, and TLS follows at once."""
    top = listener().replace(
        "[listeners.tls]",
        'proxy_protocol = "required"\nproxy_protocol_from = ["127.0.0.1/32"]\n[listeners.tls]',
    )
    async with scene({"a": answers(200)}, top=top, files=files_for(**FILES)) as play:
        client = await EdgeClient.connect(play.network, 8443)
        await client.send(header("v2", OF))
        await client.speak_tls(client_context(), "a.test")
        assert (await client.get()).status == 200
        assert told(play, "x-forwarded-for") == ["203.0.113.7"]
        client.close()


async def test_large_bodies_pass_both_ways(autojump_clock: MockClock) -> None:
    body = bytes(range(256)) * 4096
    async with scene({"a": answers(200, body)}, top=listener(), files=files_for(**FILES)) as play:
        client = await client_of(play)
        for _ in range(2):
            head = f"PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {len(body)}\r\n\r\n"
            await client.send(head.encode())
            await client.send(body)
            answer = await client.answer()
            assert (answer.body == body, answer.complete) == (True, True)
            assert play.backends["a"].requests[-1].body == body
        client.close()


@pytest.mark.parametrize("broken", [False, True])
async def test_a_body_that_ends_with_its_connection_is_whole_or_visibly_not(
    autojump_clock: MockClock, broken: bool
) -> None:
    """RFC 9112 9.8: an end without close_notify is no end."""
    script = breaks_off() if broken else answers_until_end(200, b"x" * 1000)
    async with scene({"a": script}, top=listener(), files=files_for(**FILES)) as play:
        client = await client_of(play)
        await client.send(b"GET / HTTP/1.0\r\nHost: a.test\r\n\r\n")
        answer = await client.answer()
        assert answer.complete is not broken
        client.close()


def breaks_off() -> Script:
    async def script(line: Line, request: Request) -> bool:
        await line.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * 1000)
        await trio.sleep(1)
        line.reset()
        return False

    return script


async def test_names_that_nobody_has_fill_no_memory(autojump_clock: MockClock) -> None:
    """What is remembered of hosts is bounded in bytes, not only in their number."""
    async with play_scene() as play:
        client = await client_of(play)
        for number in range(3):
            host = f"n{number}." + "a." * 20_000 + "d.test"
            assert (await client.get(host=host)).status == 200
        (terminator,) = play.stage.worker.service.terminators.values()
        assert sum(len(host) for _, host in terminator._served) < 1000


# ---- who comes without it


async def test_a_request_without_tls_is_told_so_and_concerns_no_backend(
    autojump_clock: MockClock,
) -> None:
    async with play_scene() as play:
        with structlog.testing.capture_logs() as lines:
            for method in ("GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"):
                client = await EdgeClient.connect(play.network, 8443)
                await client.send(f"{method} / HTTP/1.1\r\nHost: a.test\r\n\r\n".encode())
                answer = await client.answer(method)
                assert (answer.status, answer.header("connection")) == (400, "close")
                assert answer.header("strict-transport-security") is None
                words = b"400 Bad Request: this port speaks TLS, and the request came without it"
                assert answer.body.startswith(words) is (method != "HEAD")
                assert await client.at_end()
                client.close()
        assert [(line["event"], line["because"]) for line in lines] == [
            ("connection.turned_away", "TLS: http request: it speaks HTTP without TLS")
        ]
        await play.settled()
        assert play.stage.worker.turned_away.count == 7
        assert (play.backends["a"].requests, play.stage.access) == ([], [])
        assert play.stage.worker.service.connections == 0


async def test_it_is_told_byte_by_byte_behind_a_proxy_and_amid_a_long_body(
    autojump_clock: MockClock,
) -> None:
    more = 'hsts = "1d"\n[[listeners]]\nbind = "127.0.0.1:8444"\nproxy_protocol = "required"\n'
    more += 'proxy_protocol_from = ["127.0.0.1/32"]\n[listeners.tls]\n'
    more += 'certificates = [{ certificate = "/main.pem", key = "/main.key" }]'
    async with play_scene(more) as play:
        client = await EdgeClient.connect(play.network, 8443)
        for byte in b"GET /":
            await client.send(bytes([byte]))
            await trio.sleep(1)
        assert (await client.answer()).status == 400
        client.close()
        client = await EdgeClient.connect(play.network, 8444)
        said = b"POST / HTTP/1.1\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300_000
        await client.send(header("v2", OF) + said)
        assert (await client.answer()).status == 400
        assert await client.at_end()
        client.close()


@pytest.mark.parametrize(
    "said", [b"GET", b"SSH-2.0-OpenSSH_9.9\r\n", b"EHLO a.test\r\n", b"get / HTTP"]
)
async def test_what_is_no_request_is_answered_nothing(
    autojump_clock: MockClock, said: bytes
) -> None:
    async with play_scene() as play:
        client = await EdgeClient.connect(play.network, 8443)
        await client.send(said)
        assert await client.receive() == b""
        assert trio.current_time() < 11
        client.close()
