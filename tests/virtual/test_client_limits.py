"""What clients are allowed: each limit hits whom it is for, is told by its name, and spares the slow."""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from balancer.wire.splice import SPLICE_BYTES_MIN
from tests.support.edge_client import EdgeClient
from tests.support.raw_backend import head_of, raw
from tests.support.scene import Scene, scene
from tests.support.scripted_http import Line
from tests.support.virtual_backend import Script, answers, response, silent, trickles

POST = b"POST /up HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


@asynccontextmanager
async def limited(client: str, script: Script | None = None) -> AsyncIterator[Scene]:
    backend = script or answers(200, b"ok")
    async with scene({"a": backend}, top=f"client = {{ {client} }}") as play:
        yield play


async def refused(play: Scene, request: bytes) -> tuple[int, str]:
    """The status, and what the access log says; the connection must have ended after it."""
    client = await play.client()
    await client.send(request)
    answer = await client.answer()
    assert answer.header("connection") == "close"
    assert await client.at_end()
    client.close()
    await play.settled()
    return answer.status, play.stage.access[-1].fault


def get(target: str = "/", fields: int = 0, size: int = 0) -> bytes:
    lines = [f"GET {target} HTTP/1.1", "Host: a", *(f"X-{n}: y" for n in range(fields))]
    if size:
        lines.append("X-Much: " + "y" * size)
    return "\r\n".join([*lines, "", ""]).encode()


SIZES: dict[str, tuple[str, Callable[[int], bytes], int, int, str]] = {
    "header lines": (
        "max_fields = 20", lambda n: get(fields=n), 19, 431,
        "more than 20 header lines (client.max_fields)"),
    "more header lines than are plain": (
        "max_fields = 200", lambda n: get(fields=n), 199, 431,
        "more than 200 header lines (client.max_fields)"),
    "a target": (
        'max_target = "300B"', lambda n: get("/" + "x" * (n - 1)), 300, 414,
        "the request target is longer than 300 bytes (client.max_target)"),
    "a target that is no plain one": (
        'max_target = "300B"', lambda n: get("http://a/" + "x" * (n - 9)), 300, 414,
        "the request target is longer than 300 bytes (client.max_target)"),
    "a head": (
        'max_header = "1KiB"', lambda n: get(size=n - len(get(size=1)) + 5), 1024, 431,
        "the head is longer than 1024 bytes (client.max_header)"),
    "a request line": (
        'max_header = "1KiB", max_target = "1MiB"', lambda n: get("/" + "x" * n)[:-4], 900, 414,
        "the request line is longer than 1024 bytes (client.max_header)"),
    "an announced body": (
        'max_body = "10B"', lambda n: POST + b"Content-Length: %d\r\n\r\n" % n + b"x" * n, 10, 413,
        "the body is larger than 10 bytes (client.max_body)"),
    "a counted body": (
        'max_body = "10B"', lambda n: CHUNKED + b"1\r\nx\r\n" * n + b"0\r\n\r\n", 10, 413,
        "the body is larger than 10 bytes (client.max_body)"),
}  # fmt: skip


@pytest.mark.parametrize("what", SIZES)
async def test_what_is_too_large_is_refused_by_name_and_nothing_smaller(
    autojump_clock: MockClock, what: str
) -> None:
    client, request, most, status, sentence = SIZES[what]
    async with limited(client) as play:
        if what != "a request line":
            kept = await play.client()
            for _ in range(2):
                await kept.send(request(most))
                assert (await kept.answer()).status == 200
        assert await refused(play, request(most + 1 if status != 414 else most * 2)) == (
            status,
            sentence,
        )
        assert play.at_rest()


async def test_a_cookie_of_16_kib_passes_by_default(autojump_clock: MockClock) -> None:
    async with limited("") as play:
        client = await play.client()
        assert (await client.get("/", f"Cookie: {'c' * 16_384}")).status == 200
        assert (await client.get("/" + "t" * 8_191)).status == 200


# ---- bodies that are too large


async def test_who_expects_to_be_told_is_refused_before_the_body_comes(
    autojump_clock: MockClock,
) -> None:
    """RFC 9110 10.1.1: a final status instead of 100, and no backend has heard of it."""
    async with limited('max_body = "1KiB"') as play:
        request = POST + b"Content-Length: 1025\r\nExpect: 100-continue\r\n\r\n"
        assert (await refused(play, request))[0] == 413
        assert not play.stage.access[-1].attempts


async def test_a_body_that_grows_too_large_is_ended_wherever_it_stands(
    autojump_clock: MockClock,
) -> None:
    """Counted: nothing announces it, and the backend has had a part of it."""
    async with limited('max_body = "10KiB"', silent()) as play:
        client = await play.client()
        await client.send(CHUNKED)
        for _ in range(11):
            await trio.sleep(0.1)
            await client.send(b"400\r\n" + b"x" * 1024 + b"\r\n")
        answer = await client.answer()
        assert (answer.status, answer.header("connection")) == (413, "close")
        assert await client.at_end()
        await play.settled()
        assert play.attempts() == [
            "a client sent too large a body: the body is larger than 10240 bytes (client.max_body)"
        ]
        assert play.stage.access[-1].fault.startswith("client sent too large a body: the body is")
        assert play.backend_status("a")["failures"] == 0
        assert play.at_rest()


async def test_what_follows_a_refused_body_is_not_taken_for_a_request(
    autojump_clock: MockClock,
) -> None:
    async with limited('max_body = "10B"') as play:
        inner = get()
        request = POST + b"Content-Length: %d\r\n\r\n" % len(inner) + inner
        assert (await refused(play, request))[0] == 413
        assert len(play.stage.access) == 1


# ---- rates: up


async def upload(client: EdgeClient, size: int, *, piece: int, every_s: float) -> None:
    """Send a body in pieces, until it has gone or the other side has had enough."""
    await client.send(POST + b"Content-Length: %d\r\n\r\n" % size)
    try:
        for _ in range(0, size, piece):
            await trio.sleep(every_s)
            await client.send(b"x" * piece)
    except OSError:
        pass


@pytest.mark.parametrize("kind", ["length", "chunked"])
async def test_a_slow_post_is_ended_though_it_never_pauses(
    autojump_clock: MockClock, kind: str
) -> None:
    async with limited('body_timeout = "60s", min_upload_rate = "100B"', silent()) as play:
        client = await play.client()
        head = CHUNKED if kind == "chunked" else POST + b"Content-Length: 4096\r\n\r\n"
        await client.send(head)
        began = trio.current_time()
        with trio.move_on_after(600) as all_of_it:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(drip, client, b"1\r\nx\r\n" if kind == "chunked" else b"x")
                answer = await client.answer()
                nursery.cancel_scope.cancel()
        assert not all_of_it.cancelled_caught
        assert answer.status == 408
        assert 60 <= trio.current_time() - began <= 62
        await play.settled()
        assert "client.min_upload_rate" in play.stage.access[-1].fault
        assert "client.body_timeout" in play.stage.access[-1].fault
        assert play.backend_status("a")["failures"] == 0
        assert play.at_rest()


async def drip(client: EdgeClient, data: bytes) -> None:
    while True:
        await trio.sleep(5)
        await client.send(data)


@pytest.mark.parametrize(
    ("size", "piece", "every_s"),
    [
        (30_000, 10, 0.099),  # bit by bit, hardly faster than is asked
        (30_000, 6_000, 59),  # in bursts
        (SPLICE_BYTES_MIN * 4, 3_000, 20),  # moved by the kernel where there is one
    ],
)
async def test_a_slow_honest_upload_is_served_however_long_it_takes(
    autojump_clock: MockClock, size: int, piece: int, every_s: float
) -> None:
    async with limited('body_timeout = "60s", min_upload_rate = "100B"') as play:
        client = await play.client()
        await upload(client, size, piece=piece, every_s=every_s)
        assert (await client.answer()).status == 200
        await play.settled()
        assert play.stage.access[-1].bytes_up == size


async def test_a_slow_backend_is_not_the_clients_fault(autojump_clock: MockClock) -> None:
    """It takes little for longer than the client is given, again and again."""

    async def sips(line: Line) -> None:
        await head_of(line)
        left = 120_000 - len(line.buffer)
        while left:
            await trio.sleep(8)
            left -= len(line.sock.recv(10_000))
        await line.send(response(200, b"at last"))

    async with limited('body_timeout = "10s", min_upload_rate = "10KiB"') as play:
        await raw(play, "a", sips)
        for host in (play.network.host("127.0.0.1"), play.network.host("10.0.0.1")):
            host.send_buffer = host.receive_buffer = 4096
        client = await play.client()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_all, client, 120_000)
            assert (await client.answer()).status == 200
        assert trio.current_time() > 90


async def send_all(client: EdgeClient, size: int) -> None:
    await client.send(POST + b"Content-Length: %d\r\n\r\n" % size + b"x" * size)


# ---- rates: down


def big(size: int) -> Script:
    return answers(200, b"x" * size)


@asynccontextmanager
async def small_buffers(client: str, script: Script) -> AsyncIterator[tuple[Scene, EdgeClient]]:
    async with limited(client, script) as play:
        host = play.network.host("127.0.0.1")
        host.send_buffer = host.receive_buffer = 30_000
        yield play, await play.client()


async def sip(
    client: EdgeClient, piece: int, every_s: float, until: Callable[[], bool] = lambda: False
) -> int:
    """Read slowly until the end; how much there was."""
    total = 0
    while not until():
        await trio.sleep(every_s)
        try:
            data = client.sock.recv(piece)
        except BlockingIOError:
            continue
        except OSError:
            return total
        if not data:
            return total
        total += len(data)
    return total


async def test_a_slow_reader_is_ended_though_it_never_pauses(autojump_clock: MockClock) -> None:
    client = 'body_timeout = "60s", min_download_rate = "100B"'
    async with small_buffers(client, big(400_000)) as (play, reader):
        began = trio.current_time()
        await reader.send(get("/", 0))
        await sip(reader, 5, 1, until=lambda: bool(play.stage.access))
        assert 60 <= trio.current_time() - began <= 66
        record = play.stage.access[-1]
        assert "client.min_download_rate" in record.fault
        assert play.attempts() == [
            "a client stalled: kept us waiting for 60 s (client.body_timeout) while it took its"
            " answer at less than 100 bytes a second (client.min_download_rate)"
        ]
        assert play.backend_status("a")["failures"] == 0
        assert play.at_rest()


@pytest.mark.parametrize(("piece", "every_s"), [(120, 1), (6_500, 50)])
async def test_a_thin_line_gets_all_of_a_large_answer(
    autojump_clock: MockClock, piece: int, every_s: float
) -> None:
    """Though its send buffer is announced as writable only every few minutes."""
    client = 'body_timeout = "60s", min_download_rate = "100B"'
    async with small_buffers(client, big(200_000)) as (play, reader):
        reader.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, max(8_000, 2 * piece))
        await reader.send(get("/", 0).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        total = await sip(reader, piece, every_s)
        assert total > 200_000
        await play.settled()
        assert play.stage.access[-1].fault == ""
        assert play.stage.access[-1].bytes_down == 200_000


async def test_a_slow_answer_of_a_backend_is_not_the_clients_fault(
    autojump_clock: MockClock,
) -> None:
    async with limited(
        'body_timeout = "5s", min_download_rate = "1KiB"', trickles(b"x" * 40, piece=1, every_s=30)
    ) as play:
        client = await play.client()
        answer = await client.get()
        assert (answer.status, len(answer.body), answer.complete) == (200, 40, True)
        assert trio.current_time() >= 1200


async def test_answers_that_are_asked_for_and_not_taken_share_one_time(
    autojump_clock: MockClock,
) -> None:
    """Otherwise each small answer would buy the next one a time of its own."""
    client = 'body_timeout = "60s", min_download_rate = "100B"'
    async with small_buffers(client, big(3_000)) as (play, reader):
        began = trio.current_time()
        await reader.send(get() * 100)
        await sip(reader, 50, 2, until=lambda: any(each.fault for each in play.stage.access))
        assert trio.current_time() - began < 100
        assert "client.min_download_rate" in play.stage.access[-1].fault


# ---- connections


async def test_a_connection_ends_with_its_last_request_in_order(autojump_clock: MockClock) -> None:
    async with limited("max_requests = 3") as play:
        client = await play.client()
        said = [(await client.get()).header("connection") for _ in range(3)]
        assert said == [None, None, "close"]
        assert await client.at_end()


async def test_requests_that_are_not_plain_count_alike(autojump_clock: MockClock) -> None:
    async with limited("max_requests = 3") as play:
        client = await play.client()
        said = [(await client.get("/", "Max-Forwards: 9")).header("connection") for _ in range(3)]
        assert said == [None, None, "close"]


async def test_an_old_connection_ends_with_its_next_answer(autojump_clock: MockClock) -> None:
    async with limited('max_age = "30s"') as play:
        client = await play.client()
        assert (await client.get()).header("connection") is None
        await trio.sleep(29)
        assert (await client.get()).header("connection") is None
        await trio.sleep(1)
        assert (await client.get()).header("connection") == "close"
        assert await client.at_end()


async def test_who_comes_and_says_nothing_has_the_time_of_a_head(
    autojump_clock: MockClock,
) -> None:
    async with limited('header_timeout = "4s", idle_timeout = "50s"') as play:
        client = await play.client()
        began = trio.current_time()
        assert await client.at_end()
        assert trio.current_time() - began == pytest.approx(4)
        await play.settled()
        assert not play.stage.access, "nobody has asked for anything"


async def test_empty_lines_buy_no_time(autojump_clock: MockClock) -> None:
    async with limited('idle_timeout = "10s"') as play:
        client = await play.client()
        await client.get()
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drip, client, b"\r\n")
            assert await sip(client, 100, 1) == 0
            nursery.cancel_scope.cancel()
        assert trio.current_time() - began < 25


async def test_a_head_has_one_deadline_and_not_one_for_each_byte(
    autojump_clock: MockClock,
) -> None:
    async with limited('header_timeout = "10s"') as play:
        client = await play.client()
        await client.get()
        began = trio.current_time()
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drip, client, b"X: y\r\n")
            answer = await client.answer()
            nursery.cancel_scope.cancel()
        assert answer.status == 408
        assert trio.current_time() - began == pytest.approx(10)
        assert "client.header_timeout" in answer.body.decode()
