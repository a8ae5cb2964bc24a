"""Exchanges through a whole balancer: what the client sees, and which attempts it took."""

import socket

import pytest
import trio
from trio.testing import MockClock

from balancer.rehearsal.memory_network import MemoryNetwork
from balancer.wire.streams import cut
from tests.support.edge_client import NoAnswer, fetch
from tests.support.scene import scene
from tests.support.virtual_backend import (
    answers,
    answers_until_end,
    closes_after,
    closes_after_head,
    garbage,
    in_turn,
    resets_after,
    response,
    silent,
    trickles,
)

pytestmark = pytest.mark.usefixtures("either_way")

FAST = 'timeouts = { connect = "1s", response = "3s", idle = "5s" }'


async def test_an_answer_comes_back_with_its_fields_and_body(autojump_clock: MockClock) -> None:
    async with scene({"a": answers(200, b"hello", headers=(("X-Kind", "blue"),))}) as play:
        answer = await fetch(play.network)
        assert (answer.status, answer.body) == (200, b"hello")
        assert answer.header("x-kind") == "blue"
        assert answer.header("via") == "1.1 balancer"
        assert play.at_rest()


async def test_the_backend_learns_who_asked(autojump_clock: MockClock) -> None:
    async with scene({"a": answers(200)}) as play:
        answer = await fetch(
            play.network, "/x?y=1", "X-Forwarded-For: 6.6.6.6", "X-Real-IP: 6.6.6.6"
        )
        request = play.backends["a"].requests[0]
        assert request.raw.startswith(b"GET /x?y=1 HTTP/1.1\r\nHost: a.test\r\n")
        assert request.header("x-forwarded-for") == "127.0.0.1"
        assert request.header("x-real-ip") == "127.0.0.1"
        assert request.header("x-forwarded-proto") == "http"
        assert request.header("x-forwarded-host") == "a.test"
        assert request.header("x-request-id") == answer.header("x-request-id")


async def test_both_sides_keep_their_connection(autojump_clock: MockClock) -> None:
    async with scene({"a": answers(200, b"1")}) as play:
        client = await play.client()
        for _ in range(5):
            assert (await client.get()).body == b"1"
        assert play.backends["a"].connections == 1
        assert [request.connection for request in play.backends["a"].requests] == [1] * 5


async def test_pipelined_requests_are_answered_in_order(autojump_clock: MockClock) -> None:
    slow_first = in_turn(answers(200, b"first", after_s=2), answers(200, b"second"))
    async with scene({"a": slow_first}) as play:
        client = await play.client()
        await client.send(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert [(await client.answer()).body for _ in range(2)] == [b"first", b"second"]


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_of_any_framing_arrives_whole(
    autojump_clock: MockClock, chunked: bool
) -> None:
    body = bytes(range(256)) * 4000
    async with scene({"a": answers(200, body, chunked=chunked)}) as play:
        assert (await fetch(play.network)).body == body
        assert play.stage.access[0].bytes_down == len(body)


async def test_a_body_that_ends_with_its_connection_gets_an_end_of_its_own(
    autojump_clock: MockClock,
) -> None:
    async with scene({"a": answers_until_end(200, b"x" * 5000)}) as play:
        client = await play.client()
        first = await client.get()
        assert first.body == b"x" * 5000
        assert first.complete
        assert first.header("transfer-encoding") == "chunked"
        assert (await client.get()).complete


async def test_an_old_client_gets_a_body_that_ends_with_the_connection(
    autojump_clock: MockClock,
) -> None:
    async with scene({"a": answers(200, b"y" * 3000, chunked=True)}) as play:
        client = await play.client()
        await client.send(b"GET / HTTP/1.0\r\n\r\n")
        answer = await client.answer()
        assert answer.body == b"y" * 3000
        assert answer.header("transfer-encoding") is None


async def test_an_old_client_may_keep_its_connection(autojump_clock: MockClock) -> None:
    async with scene({"a": answers(200, b"z")}) as play:
        client = await play.client()
        for _ in range(2):
            await client.send(b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
            assert (await client.answer()).header("connection") == "keep-alive"


@pytest.mark.parametrize("status", [204, 304])
async def test_answers_without_a_body_leave_the_connection_usable(
    autojump_clock: MockClock, status: int
) -> None:
    async with scene({"a": answers(status)}) as play:
        client = await play.client()
        assert [(await client.get()).status for _ in range(2)] == [status, status]


async def test_head_tells_the_length_and_sends_nothing(autojump_clock: MockClock) -> None:
    async with scene({"a": answers(200, b"12345")}) as play:
        client = await play.client()
        await client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await client.answer("HEAD")).header("content-length") == "5"
        assert (await client.get()).body == b"12345"


async def test_a_half_closed_client_gets_its_answer(autojump_clock: MockClock) -> None:
    async with scene({"a": answers(200, b"late", after_s=2)}) as play:
        client = await play.client()
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        client.sock.shutdown(1)
        assert (await client.answer()).body == b"late"


async def test_interim_answers_are_passed_on(autojump_clock: MockClock) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
    async with scene({"a": garbage(hints, close=False)}) as play:
        client = await play.client()
        first = await client.get()
        assert (first.status, first.header("link")) == (103, "</a>")
        assert (await client.answer()).body == b"hi"


# ---- bodies on their way up


@pytest.mark.parametrize("size", [1, 1000, 70_000, 1_000_000])
async def test_an_upload_arrives_whole(autojump_clock: MockClock, size: int) -> None:
    body = bytes(i % 251 for i in range(size))
    async with scene({"a": answers(200, b"ok")}) as play:
        client = await play.client()
        await client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + body)
        assert (await client.answer()).status == 200
        assert play.backends["a"].requests[0].body == body
        await play.settled()
        assert play.stage.access[0].bytes_up == size


async def test_a_chunked_upload_keeps_its_content_and_its_trailers(
    autojump_clock: MockClock,
) -> None:
    async with scene({"a": answers(200, b"ok")}) as play:
        client = await play.client()
        await client.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=1\r\nhel"
        )
        await trio.sleep(1)
        await client.send(b"lo\r\n3\r\nyou\r\n0\r\nX-Sum: 8\r\nCookie: 3\r\n\r\n")
        assert (await client.answer()).status == 200
        raw = play.backends["a"].requests[0].body
        assert raw.replace(b"\r\n", b"|") == b"3|hel|5|loyou|0|X-Sum: 8||"


async def test_a_trailer_that_would_end_the_message_elsewhere_ends_the_connection(
    autojump_clock: MockClock,
) -> None:
    async with scene({"a": answers(200, b"ok")}) as play:
        client = await play.client()
        await client.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n"
        )
        await trio.sleep(1)
        await client.send(b"0\r\nContent-Length: 3\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = await client.answer()
        assert answer.status == 400
        assert b"Content-Length is no trailer" in answer.body
        assert await client.at_end()
        assert play.backends["a"].requests == []


async def test_an_early_answer_reaches_the_client_while_the_body_goes_up(
    autojump_clock: MockClock,
) -> None:
    async with scene({"a": answers(200)}) as play:
        play.backends["a"].kill()
        play.nursery.start_soon(_answer_early, play.network)
        await play.settled()
        client = await play.client()
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\nbegin")
        answer = await client.answer()
        assert (answer.status, answer.body) == (413, b"too much")
        assert answer.header("connection") == "close"
        await play.settled()
        assert play.at_rest()


async def _answer_early(network: MemoryNetwork) -> None:
    """A backend that refuses a body after the first bytes of it, and closes."""
    view = network.as_seen_from("10.0.0.1")
    listener = view.socket(socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("10.0.0.1", 80))
    listener.listen(8)
    await view.wait_readable(listener)
    sock, _ = listener.accept()
    await view.wait_readable(sock)
    sock.recv(65536)
    sock.send(response(413, b"too much"))


async def test_a_client_that_stops_in_its_body_blames_nobody(autojump_clock: MockClock) -> None:
    async with scene({"a": silent()}, top='client = { body_timeout = "7s" }') as play:
        client = await play.client()
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
        began = trio.current_time()
        assert (await client.answer()).status == 408
        assert trio.current_time() - began == pytest.approx(7)
        await play.settled()
        assert play.backend_status("a")["failures"] == 0
        assert play.at_rest()


# ---- failures that are hidden


REPEATED = {
    "refused": (None, "connect refused"),
    "reset before an answer": (resets_after(0), "connection broke before an answer"),
    "closed before an answer": (closes_after(0), "connection broke before an answer"),
    "cut in the head": (closes_after(20), "connection broke before an answer"),
    "silent": (silent(), "no answer in time"),
    "no HTTP": (garbage(b"SSH-2.0-OpenSSH\r\n\r\n"), "answer is not valid HTTP"),
}


@pytest.mark.parametrize("what", REPEATED)
async def test_a_get_is_answered_by_another_backend(autojump_clock: MockClock, what: str) -> None:
    script, outcome = REPEATED[what]
    async with scene({"a": script or answers(200), "b": answers(200, b"good")}, pool=FAST) as play:
        if script is None:
            play.backends["a"].kill()
        for _ in range(2):  # whichever of the two comes first
            answer = await fetch(play.network)
            assert (answer.status, answer.body) == (200, b"good")
        tried = [play.attempts(0), play.attempts(1)]
        hidden = [attempts for attempts in tried if len(attempts) == 2]
        assert len(hidden) == 1
        assert hidden[0][0].startswith(f"a {outcome}")
        assert hidden[0][1] == "b status 200"
        assert play.at_rest()


@pytest.mark.parametrize("what", ["reset before an answer", "silent", "no HTTP"])
async def test_a_post_that_may_have_been_received_is_not_repeated(
    autojump_clock: MockClock, what: str
) -> None:
    script, _ = REPEATED[what]
    assert script is not None
    async with scene({"a": script, "b": script}, pool=FAST) as play:
        client = await play.client()
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
        answer = await client.answer()
        assert answer.status in (502, 504)
        assert "error=" in (answer.header("proxy-status") or "")
        assert len(play.backends["a"].requests) + len(play.backends["b"].requests) == 1


async def test_a_post_that_was_not_sent_is_repeated_with_its_body(
    autojump_clock: MockClock,
) -> None:
    async with scene({"a": answers(200), "b": answers(200)}) as play:
        play.backends["a"].kill()
        for number in range(4):
            client = await play.client()
            await client.send(
                b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nbody%d" % number
            )
            assert (await client.answer()).status == 200
        assert [request.body for request in play.backends["b"].requests] == [
            b"body0", b"body1", b"body2", b"body3",
        ]  # fmt: skip


async def test_a_large_upload_is_repeated_when_nothing_of_it_was_sent(
    autojump_clock: MockClock,
) -> None:
    body = b"u" * 500_000
    async with scene({"a": answers(200), "b": answers(200)}) as play:
        play.backends["a"].kill()
        for _ in range(2):
            client = await play.client()
            await client.send(
                b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\n\r\n" + body
            )
            assert (await client.answer()).status == 200
        assert all(request.body == body for request in play.backends["b"].requests)


async def test_a_stale_connection_is_replaced_and_blames_nobody(autojump_clock: MockClock) -> None:
    async with scene({"a": answers(200, b"1")}) as play:
        play.backends["a"].idle_s = 5
        client = await play.client()
        assert (await client.get()).status == 200
        await trio.sleep(5.5)
        assert (await client.get()).status == 200
        assert play.backend_status("a")["failures"] == 0


async def test_the_only_backend_is_tried_again_on_a_fresh_connection(
    autojump_clock: MockClock,
) -> None:
    once = in_turn(answers(200, b"1"), resets_after(0), answers(200, b"2"))
    async with scene({"a": once}) as play:
        client = await play.client()
        assert [(await client.get()).body for _ in range(2)] == [b"1", b"2"]
        assert play.attempts() == ["a idle connection had gone", "a status 200"]
        assert play.backend_status("a")["failures"] == 0


# ---- failures that must show


async def test_a_cut_body_is_visibly_broken_off(autojump_clock: MockClock) -> None:
    async with scene({"a": closes_after_head(1000)}) as play:
        answer = await fetch(play.network)
        assert answer.status == 200
        assert not answer.complete
        assert play.attempts() == ["a answer broke off"]
        assert play.backend_status("a")["failures"] == 1


async def test_an_old_client_sees_a_reset_instead_of_an_end(autojump_clock: MockClock) -> None:
    half = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    async with scene({"a": garbage(half)}) as play:
        client = await play.client()
        await client.send(b"GET / HTTP/1.0\r\n\r\n")
        assert not (await client.answer()).complete


async def test_a_stalled_body_ends_after_the_idle_time(autojump_clock: MockClock) -> None:
    async with scene({"a": trickles(b"abcdef", piece=1, every_s=6)}, pool=FAST) as play:
        began = trio.current_time()
        assert not (await fetch(play.network)).complete
        assert trio.current_time() - began == pytest.approx(5)


async def test_when_every_backend_refuses_the_answer_says_so(autojump_clock: MockClock) -> None:
    async with scene({"a": answers(200), "b": answers(200)}) as play:
        for backend in play.backends.values():
            backend.kill()
        answer = await fetch(play.network, "/", "Accept: application/json")
        assert answer.status == 502
        assert b"connect refused" in answer.body
        assert "connection_refused" in (answer.header("proxy-status") or "")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_access_line_of_our_own_answer_counts_its_content_and_no_reuse(
    autojump_clock: MockClock, method: str
) -> None:
    async with scene({"a": answers(200)}) as play:
        play.backends["a"].kill()
        client = await play.client()
        await client.send(f"{method} / HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        answer = await client.answer(method)
        assert answer.status == 502
        record = play.stage.access[-1]
        assert record.bytes_down == len(answer.body)
        assert [attempt.reused for attempt in record.attempts] == [False, False]


async def test_a_slow_head_is_answered_504_in_time(autojump_clock: MockClock) -> None:
    async with scene({"a": silent()}, pool=FAST) as play:
        client = await play.client()
        began = trio.current_time()
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        assert (await client.answer()).status == 504
        assert trio.current_time() - began == pytest.approx(3)


# ---- clients that leave


async def test_a_client_that_resets_ends_its_attempt_without_blame(
    autojump_clock: MockClock,
) -> None:
    async with scene({"a": silent()}) as play:
        client = await play.client()
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await trio.sleep(0.1)
        cut(client.sock)
        client.close()
        await trio.sleep(2.5)
        assert play.at_rest()
        assert play.attempts() == ["a client left"]
        assert play.backend_status("a")["failures"] == 0


async def test_a_slow_request_head_is_answered_408(autojump_clock: MockClock) -> None:
    async with scene({"a": answers(200)}, top='client = { header_timeout = "4s" }') as play:
        client = await play.client()
        for byte in b"GET / HTTP/1.1\r\n":
            await client.send(bytes([byte]))
            await trio.sleep(0.5)
            if trio.current_time() > 4:
                break
        assert (await client.answer()).status == 408


async def test_a_resting_client_is_dismissed_quietly(autojump_clock: MockClock) -> None:
    async with scene({"a": answers(200)}, top='client = { idle_timeout = "9s" }') as play:
        client = await play.client()
        await client.get()
        began = trio.current_time()
        assert await client.at_end()
        assert trio.current_time() - began == pytest.approx(9)


async def test_nothing_but_http_is_answered_400_and_closed(autojump_clock: MockClock) -> None:
    async with scene({"a": answers(200)}) as play:
        client = await play.client()
        await client.send(b"\x16\x03\x01\x00\xa5" + b"x" * 50)
        assert (await client.answer()).status == 400
        assert await client.at_end()


async def test_no_route_is_404(autojump_clock: MockClock) -> None:
    top = '[[routes]]\nhost = "example.com"\npool = "web"\n'
    async with scene({"a": answers(200)}, pool=top) as play:
        client = await play.client()
        assert (await client.get(host="example.com")).status == 200
        lost = await client.get(host="other.com")
        assert lost.status == 404
        assert "destination_not_found" in (lost.header("proxy-status") or "")


async def test_the_end_of_a_connection_before_a_request_is_no_error(
    autojump_clock: MockClock,
) -> None:
    async with scene({"a": answers(200)}) as play:
        client = await play.client()
        client.sock.shutdown(1)
        with pytest.raises(NoAnswer, match="end"):
            await client.answer()
        assert play.stage.access == []
