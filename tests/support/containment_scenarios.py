"""What connections do, told once each: the scenarios into which faults are injected.

One for each thing that an exchange may come to. A new one is a function with its backends above it;
`test_every_point_is_reached_by_a_scenario` says which points still want one.
"""

import socket
import ssl
from collections.abc import Awaitable, Callable

import pytest
import trio

from balancer.core.message import RequestHead
from balancer.core.request_rules import canonical
from balancer.proxy import exchange
from balancer.wire.streams import cut
from balancer.wire.tls_socket import RECORDS_AT_ONCE
from tests.support.certificates import client_context, server_context
from tests.support.containment import Act, Scenario, Talk
from tests.support.edge_client import NoAnswer
from tests.support.raw_backend import RawScript, head_of, raw
from tests.support.scene import ADDRESSES, Scene
from tests.support.scripted_http import Line, Request
from tests.support.tunnel_ends import KEY, echoes, half_close, read, rest
from tests.support.virtual_backend import (
    Script,
    answers,
    answers_until_end,
    closes_after,
    garbage,
    in_turn,
    resets_after,
    response,
    trickles,
)

SCENARIOS: list[Scenario] = []
Prepare = Callable[[Scene], Awaitable[None]]
Patch = Callable[[pytest.MonkeyPatch], None]


def scenario(
    *methods: str,
    ways: str = "both",
    pipes: bool = False,
    route: str = "",
    top: str = "",
    port: int = 8080,
    pool: str = "",
    tls: Callable[[], ssl.SSLContext] | None = None,
    prepare: Prepare | None = None,
    patch: Patch | None = None,
    **scripts: Callable[[], Script],
) -> Callable[[Act], Act]:
    """What follows is a scenario, on the plain path and in the general flow, or on one of them.

    `scripts` are made anew for each run; `methods` are those of the requests, where they matter to
    whoever reads the answers. `tls` is spoken by the backends. `prepare` is done before anything is counted. `patch` makes it a
    scenario that crashes by itself, once.
    """

    def enlist(act: Act) -> Act:
        words = act.__name__.replace("_", " ")
        for general in (False, True):
            if ways in ("both", "general" if general else "plain"):
                name = f"{words}, {'general' if general else 'plain'}"
                SCENARIOS.append(
                    Scenario(
                        name,
                        act,
                        scripts,
                        methods=methods,
                        general=general,
                        pipes=pipes,
                        route=route,
                        top=top,
                        port=port,
                        pool=pool,
                        tls=tls,
                        prepare=prepare,
                        patch=patch,
                    )
                )
        return act

    return enlist


# ---- what backends and sockets do

HELLO = b"hello"
LARGE = bytes(range(256)) * 1200


def hello() -> Script:
    return answers(200, HELLO)


def says_nothing() -> Script:
    async def script(line: Line, request: Request) -> bool:
        await trio.sleep(5)
        return False

    return script


def echo() -> Script:
    async def script(line: Line, request: Request) -> bool:
        await line.send(response(200, str(len(request.body)).encode()))
        return True

    return script


def after_hello(*scripts: Callable[[], Script]) -> Callable[[], Script]:
    """These, once a first answer has left a connection at rest."""
    return lambda: in_turn(hello(), *(make() for make in scripts))


def speaks(script: RawScript) -> Prepare:
    """Backend `a` is this, on the raw connection."""

    async def prepare(play: Scene) -> None:
        await raw(play, "a", script)

    return prepare


def narrow(near: int = 4096, far: int = 4096) -> Prepare:
    """Little fits into the sockets of clients and balancer, or into those of the backends."""

    async def prepare(play: Scene) -> None:
        play.network.own_host.receive_buffer = play.network.own_host.send_buffer = near
        host = play.network.host("10.0.0.1")
        host.receive_buffer = host.send_buffer = far

    return prepare


def wide() -> Prepare:
    return narrow(8 * 1024 * 1024, 8 * 1024 * 1024)


def both(first: Prepare, second: Prepare) -> Prepare:
    async def prepare(play: Scene) -> None:
        await first(play)
        await second(play)

    return prepare


async def first_of_two(talk: Talk) -> None:
    answer = await talk.client.get()
    assert (answer.status, answer.body) == (200, HELLO)


# ---- the ordinary


@scenario(a=hello)
async def one_request_after_the_other(talk: Talk) -> None:
    for _ in range(3):
        await first_of_two(talk)
        await trio.sleep(0.1)


@scenario(a=hello)
async def a_connection_that_rests_too_long(talk: Talk) -> None:
    await first_of_two(talk)
    assert await talk.client.at_end()


@scenario(a=hello)
async def two_requests_at_once(talk: Talk) -> None:
    await first_of_two(talk)
    await talk.client.send(b"GET /1 HTTP/1.1\r\nHost: a.test\r\n\r\n" * 2)
    for _ in range(2):
        assert (await talk.client.answer()).body == HELLO


@scenario(a=hello)
async def a_last_request(talk: Talk) -> None:
    await first_of_two(talk)
    assert (await talk.client.get("/", "Connection: close")).body == HELLO
    assert await talk.client.at_end()


@scenario("GET", "HEAD", "GET", a=hello)
async def a_head(talk: Talk) -> None:
    await first_of_two(talk)
    await talk.asks("HEAD / HTTP/1.1\nHost: a.test")
    assert (await talk.client.answer("HEAD")).status == 200
    await first_of_two(talk)


@scenario(a=after_hello(echo))
async def a_post_at_once(talk: Talk) -> None:
    await first_of_two(talk)
    await talk.asks("POST / HTTP/1.1\nHost: a.test\nContent-Length: 500", b"x" * 500)
    assert (await talk.client.answer()).body == b"500"


@scenario(a=lambda: answers(200, b"c" * 3000, chunked=True))
async def an_answer_in_chunks(talk: Talk) -> None:
    for _ in range(2):
        assert (await talk.client.get()).body == b"c" * 3000


@scenario(a=after_hello(lambda: trickles(b"t" * 300, piece=100, every_s=0.3)))
async def an_answer_in_pieces(talk: Talk) -> None:
    await first_of_two(talk)
    assert (await talk.client.get()).body == b"t" * 300


@scenario(a=lambda: answers_until_end(200, b"u" * 300))
async def an_answer_until_the_end(talk: Talk) -> None:
    assert (await talk.client.get()).body == b"u" * 300


def until_the_end_in_pieces() -> Script:
    async def script(line: Line, request: Request) -> bool:
        await line.send(b"HTTP/1.1 200 OK\r\n\r\n" + b"u" * 100)
        for _ in range(2):
            await trio.sleep(0.2)
            await line.send(b"u" * 100)
        return False

    return script


@scenario(a=until_the_end_in_pieces)
async def an_answer_until_the_end_in_pieces(talk: Talk) -> None:
    assert (await talk.client.get()).body == b"u" * 300


@scenario(a=until_the_end_in_pieces)
async def an_old_client_that_is_answered_in_pieces(talk: Talk) -> None:
    await talk.asks("GET / HTTP/1.0")
    assert (await talk.client.answer()).body == b"u" * 300


@scenario(a=lambda: answers_until_end(200, b"u" * 300))
async def an_old_client(talk: Talk) -> None:
    await talk.asks("GET / HTTP/1.0")
    assert (await talk.client.answer()).body == b"u" * 300


@scenario(a=hello)
async def empty_lines_before_a_request(talk: Talk) -> None:
    await talk.client.send(b"\r\n")
    await trio.sleep(0.2)
    await first_of_two(talk)


@scenario(a=hello)
async def a_head_in_pieces(talk: Talk) -> None:
    for piece in (b"GET / HT", b"TP/1.1\r\nHost: a.test\r\n", b"\r\n"):
        await talk.client.send(piece)
        await trio.sleep(0.2)
    assert (await talk.client.answer()).body == HELLO


INTRODUCED = """
[[listeners]]
bind = "127.0.0.1:8081"
proxy_protocol = "required"
proxy_protocol_from = ["127.0.0.1"]
"""


@scenario(a=hello, top=INTRODUCED, port=8081)
async def a_client_behind_a_proxy(talk: Talk) -> None:
    for piece in (b"PROXY TCP4 192.0.2.1 192", b".0.2.2 1111 2222\r\n"):
        await talk.client.send(piece)
        await trio.sleep(0.2)
    for _ in range(2):
        await first_of_two(talk)


@scenario(a=hello, top=INTRODUCED, port=8081)
async def a_client_without_the_header_that_is_wanted(talk: Talk) -> None:
    await talk.client.send(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
    with pytest.raises(NoAnswer):
        await talk.client.answer()


TLS = """
[[listeners]]
bind = "127.0.0.1:8443"
[listeners.tls]
certificates = [{ certificate = "/main.pem", key = "/main.key" }]
handshake_timeout = "2s"
"""


@scenario(a=hello, top=TLS, port=8443)
async def a_client_that_speaks_tls(talk: Talk) -> None:
    await trio.sleep(0.2)
    await talk.client.speak_tls(client_context(), "a.test")
    for _ in range(2):
        await first_of_two(talk)


@scenario(a=hello, top=TLS, port=8443, prepare=narrow(256))
async def a_client_that_speaks_tls_through_little_room(talk: Talk) -> None:
    await talk.client.speak_tls(client_context(), "a.test")
    await first_of_two(talk)


@scenario(a=hello, top=TLS, port=8443)
async def a_client_that_speaks_no_tls(talk: Talk) -> None:
    await talk.client.send(b"SSH-2.0-OpenSSH_9.9\r\n")
    await talk.client.receive()


@scenario(a=hello, top=TLS, port=8443)
async def a_client_that_never_agrees_on_keys(talk: Talk) -> None:
    await talk.client.receive()


@scenario(a=hello, top='[[listeners]]\nbind = "127.0.0.1:8081"\nhttps_redirect = 8443', port=8081)
async def a_client_that_is_sent_to_https(talk: Talk) -> None:
    for _ in range(2):
        assert (await talk.client.get()).status == 308


def in_records_of_a_byte(talk: Talk, said: bytes) -> None:
    """All of it comes at once, and takes several turns to read."""
    for at in range(len(said)):
        assert talk.client.sock.send(said[at : at + 1]) == 1


SMALL = b"s" * (3 * RECORDS_AT_ONCE)
SMALL_HEAD = b"GET / HTTP/1.1\r\nHost: a.test\r\nCookie: %b\r\n\r\n" % SMALL


@scenario(a=hello, top=TLS, port=8443)
async def a_client_that_asks_in_records_of_a_byte(talk: Talk) -> None:
    await talk.client.speak_tls(client_context(), "a.test")
    for _ in range(2):
        in_records_of_a_byte(talk, SMALL_HEAD)
        assert (await talk.client.answer()).body == HELLO


@scenario(a=echo, top=TLS, port=8443)
async def an_upload_in_records_of_a_byte(talk: Talk) -> None:
    await talk.client.speak_tls(client_context(), "a.test")
    await talk.asks(f"PUT / HTTP/1.1\nHost: a.test\nContent-Length: {len(SMALL)}")
    await trio.sleep(0.2)
    in_records_of_a_byte(talk, SMALL)
    assert (await talk.client.answer()).body == str(len(SMALL)).encode()


def its_own_certificate() -> ssl.SSLContext:
    return server_context("10.0.0.1")


BACKEND_TLS = 'tls = { ca = "/ca.pem" }'


@scenario(a=hello, pool=BACKEND_TLS, tls=its_own_certificate)
async def a_backend_that_speaks_tls(talk: Talk) -> None:
    for _ in range(2):
        await first_of_two(talk)


@scenario(a=echo, pool=BACKEND_TLS, tls=its_own_certificate, prepare=narrow())
async def an_upload_to_a_backend_that_speaks_tls_and_takes_it_slowly(talk: Talk) -> None:
    await talk.asks(f"PUT / HTTP/1.1\nHost: a.test\nContent-Length: {len(LARGE)}")
    await trio.sleep(0.2)
    await talk.client.send(LARGE)
    assert (await talk.client.answer()).body == str(len(LARGE)).encode()


@scenario(a=hello, pool=BACKEND_TLS, tls=lambda: server_context("10.0.0.9"))
async def a_backend_that_is_somebody_else(talk: Talk) -> None:
    assert (await talk.client.get()).status == 502


# ---- bodies that come and go slowly


@scenario(a=after_hello(echo))
async def a_slow_upload(talk: Talk) -> None:
    await first_of_two(talk)
    await talk.asks("POST / HTTP/1.1\nHost: a.test\nContent-Length: 900", b"x" * 300)
    for _ in range(2):
        await trio.sleep(0.3)
        await talk.client.send(b"x" * 300)
    assert (await talk.client.answer()).body == b"900"


@scenario(a=after_hello(hello))
async def an_upload_in_chunks(talk: Talk) -> None:
    await first_of_two(talk)
    head = "POST / HTTP/1.1\nHost: a.test\nTransfer-Encoding: chunked\nTrailer: x"
    await talk.asks(head, b"5\r\nabcde\r\n")
    for piece in (b"3\r\nabc", b"\r\n0\r\n", b"X: y\r\n\r\n"):
        await trio.sleep(0.2)
        await talk.client.send(piece)
    assert (await talk.client.answer()).body == HELLO


@scenario(a=echo, prepare=narrow())
async def an_upload_that_the_backend_takes_slowly(talk: Talk) -> None:
    await talk.asks(f"PUT / HTTP/1.1\nHost: a.test\nContent-Length: {len(LARGE)}", LARGE)
    assert (await talk.client.answer()).body == str(len(LARGE)).encode()


@scenario(a=after_hello(echo), prepare=narrow(64 * 1024, 2048))
async def an_upload_that_does_not_fit(talk: Talk) -> None:
    await first_of_two(talk)
    play = talk.play
    play.network.own_host.send_buffer = 2048
    await talk.asks("PUT / HTTP/1.1\nHost: a.test\nContent-Length: 40000", b"x" * 40_000)
    assert (await talk.client.answer()).body == b"40000"


async def answers_the_head(line: Line) -> None:
    await head_of(line)
    await line.send(response(200, b"early"))
    await trio.sleep(1)


@scenario(a=hello, prepare=speaks(answers_the_head))
async def an_answer_before_the_request_is_whole(talk: Talk) -> None:
    await talk.asks("PUT / HTTP/1.1\nHost: a.test\nContent-Length: 900", b"x" * 300)
    assert (await talk.client.answer()).body == b"early"


async def answers_the_head_at_length(line: Line) -> None:
    await head_of(line)
    await line.send(response(200, LARGE))
    await trio.sleep(1)


@scenario(a=hello, top=TLS, port=8443, prepare=both(narrow(), speaks(answers_the_head_at_length)))
async def an_upload_over_tls_whose_answer_is_read_late(talk: Talk) -> None:
    await talk.client.speak_tls(client_context(), "a.test")
    await talk.asks("PUT / HTTP/1.1\nHost: a.test\nContent-Length: 900", b"x" * 300)
    await trio.sleep(0.5)
    assert (await talk.client.answer()).body == LARGE


@scenario(a=after_hello(lambda: answers(200, LARGE)), prepare=narrow())
async def an_answer_that_is_read_slowly(talk: Talk) -> None:
    await first_of_two(talk)
    assert (await talk.client.get()).body == LARGE


@scenario(a=after_hello(lambda: answers(200, LARGE, chunked=True)), prepare=narrow())
async def chunks_that_are_read_slowly(talk: Talk) -> None:
    await first_of_two(talk)
    assert (await talk.client.get()).body == LARGE


@scenario(a=hello)
async def a_body_in_very_many_pieces(talk: Talk) -> None:
    head = "POST / HTTP/1.1\nHost: a.test\nTransfer-Encoding: chunked"
    await talk.asks(head, b"1\r\nx\r\n" * 100 + b"0\r\n\r\n")
    assert (await talk.client.answer()).body == HELLO


# ---- moved by the kernel


@scenario(a=after_hello(lambda: answers(200, LARGE)), pipes=True)
async def a_large_answer(talk: Talk) -> None:
    await first_of_two(talk)
    assert (await talk.client.get()).body == LARGE


@scenario(a=after_hello(lambda: answers(200, LARGE * 8)), pipes=True, prepare=wide())
async def a_very_large_answer(talk: Talk) -> None:
    await first_of_two(talk)
    assert (await talk.client.get()).body == LARGE * 8


@scenario(a=after_hello(lambda: answers(200, LARGE)), pipes=True, prepare=narrow())
async def a_large_answer_that_is_read_slowly(talk: Talk) -> None:
    await first_of_two(talk)
    assert (await talk.client.get()).body == LARGE


@scenario(
    a=after_hello(lambda: trickles(LARGE, piece=len(LARGE), every_s=0.2)),
    pipes=True,
    prepare=narrow(32 * 1024, 8 * 1024 * 1024),
)
async def a_large_answer_that_fills_the_pipe(talk: Talk) -> None:
    await first_of_two(talk)
    assert (await talk.client.get()).body == LARGE


@scenario(
    a=after_hello(lambda: trickles(LARGE, piece=100_000, every_s=0.3)), pipes=True, prepare=wide()
)
async def a_large_answer_in_pieces(talk: Talk) -> None:
    await first_of_two(talk)
    assert (await talk.client.get()).body == LARGE


@scenario(a=lambda: answers_until_end(200, LARGE), pipes=True)
async def a_large_answer_until_the_end_for_an_old_client(talk: Talk) -> None:
    await talk.asks("GET / HTTP/1.0")
    assert (await talk.client.answer()).body == LARGE


@scenario(a=echo, pipes=True, prepare=narrow(far=64 * 1024))
async def a_large_upload(talk: Talk) -> None:
    await talk.asks(f"PUT / HTTP/1.1\nHost: a.test\nContent-Length: {len(LARGE)}")
    for start in range(0, len(LARGE), 40_000):
        await talk.client.send(LARGE[start : start + 40_000])
        await trio.sleep(0.1)
    assert (await talk.client.answer()).body == str(len(LARGE)).encode()


@scenario(a=after_hello(echo), pipes=True, prepare=wide())
async def a_large_upload_at_once(talk: Talk) -> None:
    await first_of_two(talk)
    length = 8 * len(LARGE)
    await talk.asks(f"PUT / HTTP/1.1\nHost: a.test\nContent-Length: {length}", LARGE * 8)
    assert (await talk.client.answer()).body == str(length).encode()


@scenario(a=after_hello(echo), pipes=True, prepare=narrow(128 * 1024, 2048))
async def a_large_upload_that_fills_the_pipe(talk: Talk) -> None:
    await first_of_two(talk)
    length = 2 * len(LARGE)
    await talk.asks(f"PUT / HTTP/1.1\nHost: a.test\nContent-Length: {length}", LARGE * 2)
    assert (await talk.client.answer()).body == str(length).encode()


@scenario(a=after_hello(lambda: resets_after(200_000, LARGE)), pipes=True)
async def a_large_answer_that_breaks_off(talk: Talk) -> None:
    await first_of_two(talk)
    assert not (await talk.client.get()).complete


# ---- before the answer


@scenario(a=echo)
async def a_client_that_waits_for_100(talk: Talk) -> None:
    await talk.asks("PUT / HTTP/1.1\nHost: a.test\nContent-Length: 3\nExpect: 100-continue")
    assert (await talk.client.answer()).status == 100
    await talk.client.send(b"abc")
    assert (await talk.client.answer()).body == b"3"


def hints() -> Script:
    async def script(line: Line, request: Request) -> bool:
        await line.send(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
        await trio.sleep(0.3)
        await line.send(response(200, HELLO))
        return True

    return script


@scenario(a=hints)
async def early_hints(talk: Talk) -> None:
    for _ in range(2):
        assert (await talk.client.get()).status == 103
        assert (await talk.client.answer()).body == HELLO


# ---- a client that is wrong, slow or gone


@scenario(a=hello)
async def a_request_that_is_none(talk: Talk) -> None:
    await talk.client.send(b"GET / HTTP/1.1\r\nHost : a.test\r\n\r\n")
    assert (await talk.client.answer()).status == 400
    assert await talk.client.at_end()


@scenario(a=hello)
async def a_head_that_cannot_be_read_on(talk: Talk) -> None:
    await talk.client.send(b"GET / HTTP/1.1\nHost: a.test\n\n")
    assert (await talk.client.answer()).status == 400


@scenario(a=hello)
async def a_head_that_does_not_come(talk: Talk) -> None:
    await talk.client.send(b"GET / HTTP/1.1\r\nHost:")
    assert (await talk.client.answer()).status == 408


@scenario(a=hello, route='host = "a.test"')
async def a_host_that_nobody_serves(talk: Talk) -> None:
    assert (await talk.client.get("/", host="nowhere.test")).status == 404


@scenario(a=hello)
async def options_that_may_go_no_further(talk: Talk) -> None:
    await talk.asks("OPTIONS / HTTP/1.1\nHost: a.test\nMax-Forwards: 0")
    assert (await talk.client.answer()).status == 200


@scenario(a=echo)
async def a_body_that_does_not_come(talk: Talk) -> None:
    await talk.asks("PUT / HTTP/1.1\nHost: a.test\nContent-Length: 9", b"abc")
    assert (await talk.client.answer()).status == 408


@scenario(a=after_hello(says_nothing))
async def a_client_that_leaves(talk: Talk) -> None:
    await first_of_two(talk)
    await talk.asks("GET / HTTP/1.1\nHost: a.test")
    await trio.sleep(0.5)
    cut(talk.client.sock)
    talk.client.close()


@scenario(a=after_hello(lambda: answers(200, LARGE)), prepare=narrow())
async def a_client_that_does_not_read(talk: Talk) -> None:
    await first_of_two(talk)
    await talk.asks("GET / HTTP/1.1\nHost: a.test")
    await trio.sleep(3)


@scenario(a=hello)
async def a_client_that_ends_its_side(talk: Talk) -> None:
    await first_of_two(talk)
    await talk.asks("GET / HTTP/1.1\nHost: a.test")
    talk.client.sock.shutdown(socket.SHUT_WR)
    assert (await talk.client.answer()).body == HELLO
    assert await talk.client.at_end()


@scenario(a=lambda: answers(200, b"x" * 12_000), prepare=narrow(16 * 1024))
async def an_answer_behind_one_that_nobody_reads(talk: Talk) -> None:
    await talk.asks("GET / HTTP/1.1\nHost: a.test")
    await trio.sleep(0.2)
    host = talk.play.network.own_host
    host.receive_buffer = host.send_buffer = 2048
    await talk.asks("GET / HTTP/1.1\nHost: a.test")
    await trio.sleep(0.5)
    for _ in range(2):
        assert (await talk.client.answer()).body == b"x" * 12_000


# ---- a backend in trouble


@scenario(a=after_hello(lambda: resets_after(0), hello))
async def a_backend_that_breaks_the_connection(talk: Talk) -> None:
    for _ in range(2):
        await first_of_two(talk)


@scenario(a=hello, b=hello)
async def a_backend_that_refuses(talk: Talk) -> None:
    talk.play.backends["a"].kill()
    for _ in range(2):
        await first_of_two(talk)


@scenario(a=lambda: garbage(b"nonsense\r\n\r\n"), b=lambda: closes_after(0))
async def backends_that_all_fail(talk: Talk) -> None:
    await talk.asks("POST / HTTP/1.1\nHost: a.test\nContent-Length: 1", b"x")
    assert (await talk.client.answer()).status == 502


@scenario(a=hello)
async def a_pool_without_a_backend(talk: Talk) -> None:
    await first_of_two(talk)
    await talk.play.stage.instance.desk.drain("web", ADDRESSES["a"])
    assert (await talk.client.get()).status == 503


@scenario(a=after_hello(says_nothing))
async def a_backend_that_does_not_answer(talk: Talk) -> None:
    await first_of_two(talk)
    await talk.asks("POST / HTTP/1.1\nHost: a.test\nContent-Length: 1", b"x")
    assert (await talk.client.answer()).status == 504


@scenario(a=after_hello(lambda: resets_after(600)))
async def an_answer_that_breaks_off(talk: Talk) -> None:
    await first_of_two(talk)
    assert not (await talk.client.get()).complete


def stalls() -> Script:
    async def script(line: Line, request: Request) -> bool:
        await line.send(response(200, b"x" * 100, chunked=True)[:-20])
        await trio.sleep(4)
        return False

    return script


@scenario(a=after_hello(stalls))
async def an_answer_that_stalls(talk: Talk) -> None:
    await first_of_two(talk)
    assert not (await talk.client.get()).complete


@scenario(a=lambda: resets_after(30, b""))
async def an_old_client_whose_answer_breaks_off(talk: Talk) -> None:
    await talk.asks("GET / HTTP/1.0")
    assert (await talk.client.answer()).status == 502


@scenario(a=after_hello(lambda: answers(200, HELLO, after_s=0.5)))
async def a_backend_that_is_drained_meanwhile(talk: Talk) -> None:
    await first_of_two(talk)
    await talk.asks("GET / HTTP/1.1\nHost: a.test")
    await talk.play.stage.instance.desk.drain("web", ADDRESSES["a"])
    assert (await talk.client.answer()).body == HELLO


# ---- tunnels

ASKS = "GET / HTTP/1.1\nHost: a.test\nConnection: Upgrade\nUpgrade: "


@scenario(a=lambda: echoes(at_end=b"bye"), ways="general")
async def a_tunnel(talk: Talk) -> None:
    await talk.asks(ASKS + "echo", b"early")
    assert (await talk.client.answer()).status == 101
    for word in (b"one", b"two"):
        await trio.sleep(0.2)
        await talk.client.send(word)
    half_close(talk.client)
    assert await rest(talk.client) == b"earlyonetwobye"


@scenario(a=lambda: echoes(early=LARGE), ways="general", prepare=narrow())
async def a_tunnel_with_little_room(talk: Talk) -> None:
    await talk.asks(ASKS + "echo")
    assert (await talk.client.answer()).status == 101
    await trio.sleep(0.3)
    half_close(talk.client)
    assert await rest(talk.client) == LARGE


@scenario(a=lambda: echoes(early=LARGE), ways="general", pipes=True, prepare=narrow())
async def a_tunnel_by_the_kernel(talk: Talk) -> None:
    await a_tunnel_with_little_room(talk)


@scenario(a=lambda: echoes(early=LARGE * 8), ways="general", pipes=True, prepare=wide())
async def a_tunnel_through_which_much_comes_at_once(talk: Talk) -> None:
    await talk.asks(ASKS + "echo")
    assert (await talk.client.answer()).status == 101
    half_close(talk.client)
    assert await rest(talk.client) == LARGE * 8


@scenario(a=lambda: echoes("websocket"), ways="general")
async def a_websocket_whose_backend_leaves(talk: Talk) -> None:
    await talk.asks(ASKS + f"websocket\nSec-WebSocket-Key: {KEY}")
    assert (await talk.client.answer()).status == 101
    await talk.play.stage.instance.desk.drain("web", ADDRESSES["a"])
    assert await read(talk.client, 4) == b"\x88\x02\x03\xe9"
    await trio.sleep(0.2)
    await talk.client.send(b"\x88\x80mask")
    assert await rest(talk.client) == b""


@scenario(a=lambda: echoes(early=LARGE), ways="general", top=TLS, port=8443, prepare=narrow())
async def a_tunnel_with_a_client_that_speaks_tls(talk: Talk) -> None:
    await talk.client.speak_tls(client_context(), "a.test")
    await talk.asks(ASKS + "echo")
    assert (await talk.client.answer()).status == 101
    await trio.sleep(0.3)
    assert await read(talk.client, len(LARGE)) == LARGE
    await talk.client.send(b"word")
    assert await read(talk.client, 4) == b"word"
    half_close(talk.client)
    assert await rest(talk.client) == b""


@scenario(a=echoes, ways="general", top=TLS, port=8443)
async def a_tunnel_in_records_of_a_byte(talk: Talk) -> None:
    await talk.client.speak_tls(client_context(), "a.test")
    await talk.asks(ASKS + "echo")
    assert (await talk.client.answer()).status == 101
    in_records_of_a_byte(talk, SMALL)
    assert await read(talk.client, len(SMALL)) == SMALL
    half_close(talk.client)
    assert await rest(talk.client) == b""


# ---- a mistake of ours


def crashes_at(target: bytes) -> Patch:
    """Requests for this target are not understood, in a way that nobody has thought of."""

    def breaks(head: RequestHead, *, secure: bool) -> tuple[RequestHead, str | None]:
        if head.target == target.decode():
            raise RuntimeError("a bug")
        return canonical(head, secure=secure)

    return lambda patch: patch.setattr(exchange, "canonical", breaks)


@scenario(a=hello, ways="general", patch=crashes_at(b"/bug"))
async def a_crash_of_our_own(talk: Talk) -> None:
    await first_of_two(talk)
    assert (await talk.client.get("/bug")).status == 500
