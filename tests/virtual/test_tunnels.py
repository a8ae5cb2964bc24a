"""Tunnels through a whole balancer: how they begin, what passes, and how they end."""

import socket

import pytest
import trio
from trio.testing import MockClock

from balancer.core.websocket_frames import FrameScanner
from balancer.proxy.tunnel_way import FRAMED_READ_BYTES_MAX
from balancer.wire.streams import cut
from tests.support.certificates import client_context, files_for
from tests.support.edge_client import EdgeClient
from tests.support.scene import Scene, scene
from tests.support.tunnel_ends import (
    ACCEPT,
    ECHO,
    KEY,
    ask,
    echoes,
    half_close,
    listens,
    read,
    rest,
    switch,
)
from tests.support.virtual_backend import (
    Line,
    Request,
    Script,
    answers,
    closes_after,
    garbage,
    in_turn,
    resets_after,
    silent,
)

LIMITED = 'tunnels = { protocols = ["echo"], idle_timeout = "10s", max_age = "1m" }'


def outcome(play: Scene) -> tuple[int, str, str]:
    """Status, outcome and fault of the last line of the access log."""
    record = play.stage.access[-1]
    return record.status, record.attempts[-1].outcome, record.fault


async def keep_sending(client: EdgeClient, data: bytes, *, every_s: float) -> None:
    while True:
        await client.send(data)
        await trio.sleep(every_s)


# ---- how one begins


async def test_bytes_pass_both_ways_and_are_noted_at_the_end(autojump_clock: MockClock) -> None:
    async with scene({"a": echoes()}, pool=ECHO) as play:
        client, answer = await ask(play)
        assert answer.status == 101
        assert answer.header("connection") == "Upgrade"
        assert answer.header("upgrade") == "echo"
        assert answer.header("via") == "1.1 balancer"
        assert answer.header("x-request-id") is not None
        asked = play.backends["a"].requests[0]
        assert (asked.header("connection"), asked.header("upgrade")) == ("Upgrade", "echo")
        for word in (b"one", b"two", b"x" * 300_000):
            await client.send(word)
            assert await read(client, len(word)) == word
        await trio.sleep(5)
        assert play.stage.access == []
        half_close(client)
        assert await rest(client) == b""
        await play.settled()
        assert outcome(play) == (101, "echo ended by the client", "")
        record = play.stage.access[0]
        assert (record.bytes_up, record.bytes_down) == (300_006, 300_006)
        assert record.ended - record.began == pytest.approx(5, abs=0.1)
        assert play.backend_status("a")["requests"] == 1
        assert play.at_rest()


async def test_a_websocket_is_allowed_by_default_and_its_answer_held_to_the_key(
    autojump_clock: MockClock,
) -> None:
    async with scene({"a": echoes("websocket")}) as play:
        client, answer = await ask(play, "websocket", "Sec-WebSocket-Protocol: chat")
        assert answer.header("sec-websocket-accept") == ACCEPT
        asked = play.backends["a"].requests[0]
        assert asked.header("sec-websocket-key") == KEY
        assert asked.header("sec-websocket-protocol") == "chat"
        await client.send(b"\x81\x82abcd\x00\x00")
        assert await read(client, 8) == b"\x81\x82abcd\x00\x00"


async def test_over_tls_a_client_may_send_much_before_it_reads(autojump_clock: MockClock) -> None:
    listener = """
[[listeners]]
bind = "127.0.0.1:8443"
[listeners.tls]
certificates = [{ certificate = "/main.pem", key = "/main.key" }]
"""
    files = files_for(main="a.test")
    word = bytes(range(256)) * 400
    async with scene({"a": echoes()}, pool=ECHO, top=listener, files=files) as play:
        play.network.own_host.send_buffer = play.network.own_host.receive_buffer = 4096
        client = await EdgeClient.connect(play.network, 8443)
        await client.speak_tls(client_context(), "a.test")
        await client.send(b"GET / HTTP/1.1\r\nHost: a.test\r\n")
        await client.send(b"Connection: Upgrade\r\nUpgrade: echo\r\n\r\n")
        assert (await client.answer()).status == 101
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send, word)
            await trio.sleep(1)
            assert await read(client, len(word)) == word
        client.close()
        await play.settled()
        record = play.stage.access[-1]
        assert (record.tls, record.bytes_up, record.bytes_down) == (
            "TLSv1.3",
            len(word),
            len(word),
        )
        assert play.stage.instance.desk.status(None)["connection_crashes"] == 0


async def test_bytes_that_came_too_early_belong_to_the_tunnel(autojump_clock: MockClock) -> None:
    async with scene({"a": echoes(early=b"hello ")}, pool=ECHO) as play:
        client, answer = await ask(play, behind=b"behind")
        assert answer.status == 101
        assert await read(client, 12) == b"hello behind"


async def test_many_frames_that_came_too_early_hold_up_nobody_either(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 64 KiB, 32,000 frames without content: a quarter at a time, as of what comes later."""
    read_at_once: list[int] = []
    feed = FrameScanner.feed

    def feeding(scanner: FrameScanner, data: bytes, **how: bool) -> int:
        read_at_once.append(len(data))
        return feed(scanner, data, **how)

    monkeypatch.setattr(FrameScanner, "feed", feeding)
    frames = b"\x89\x00" * 31_000
    async with scene({"a": echoes("websocket")}) as play:
        client, answer = await ask(play, "websocket", behind=frames)
        assert answer.status == 101
        assert await read(client, len(frames)) == frames
    assert max(read_at_once) <= FRAMED_READ_BYTES_MAX


@pytest.mark.parametrize(
    "lines",
    [
        ("Connection: Upgrade", "Upgrade: other"),
        ("Connection: Upgrade", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"),
        ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMA"),
        ("Connection: Upgrade", "Upgrade: echo, other"),
        ("Connection: keep-alive", "Upgrade: echo"),
        ("Connection: Upgrade",),
        ("Connection: Upgrade", "Upgrade: websocket"),
        ("Connection: Upgrade", "Upgrade: echo", "Content-Length: 2"),
        ("Connection: Upgrade", "Upgrade: echo", "Transfer-Encoding: chunked"),
    ],
)
async def test_what_is_no_upgrade_here_is_an_ordinary_request(
    autojump_clock: MockClock, lines: tuple[str, ...]
) -> None:
    async with scene({"a": answers(200, b"plain")}, pool=ECHO) as play:
        client = await play.client()
        body = {"Content-Length: 2": b"hi", "Transfer-Encoding: chunked": b"0\r\n\r\n"}.get(
            lines[-1], b""
        )
        head = "\r\n".join(["GET / HTTP/1.1", "Host: a", *lines, "", ""]).encode()
        await client.send(head + body)
        answer = await client.answer()
        assert (answer.status, answer.body) == (200, b"plain")
        asked = play.backends["a"].requests[0]
        assert asked.header("upgrade") is None
        assert "upgrade" not in (asked.header("connection") or "").lower()
        assert (await client.get()).status == 200


async def test_another_answer_than_101_is_passed_on_and_the_connection_lives(
    autojump_clock: MockClock,
) -> None:
    async with scene({"a": answers(426, b"no")}, pool=ECHO) as play:
        client, answer = await ask(play)
        assert (answer.status, answer.header("connection")) == (426, None)
        assert (await client.get()).status == 426


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n",
        b"HTTP/1.1 101 x\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 101 x\r\nUpgrade: echo\r\n\r\n",
        b"HTTP/1.0 101 x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n",
        b"HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: echo\r\nContent-Length: 3\r\n\r\nabc",
    ],
)
async def test_a_wrong_101_is_no_answer_and_another_backend_is_asked(
    autojump_clock: MockClock, head: bytes
) -> None:
    async with scene({"a": garbage(head), "b": echoes()}, pool=ECHO) as play:
        for _ in range(2):
            client, answer = await ask(play)
            assert answer.status == 101
            await client.send(b"x")
            assert await read(client, 1) == b"x"
            client.close()
        await play.settled()
        assert any(
            record.attempts[0].outcome.startswith("answer is not valid HTTP")
            for record in play.stage.access
        )


async def test_a_websocket_whose_accept_is_wrong_is_no_answer(autojump_clock: MockClock) -> None:
    wrong = (
        b"HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: AAAA\r\n\r\n"
    )
    async with scene({"a": garbage(wrong)}) as play:
        _, answer = await ask(play, "websocket")
        assert answer.status == 502
        assert "does not answer the key" in play.attempts()[0]


@pytest.mark.parametrize("broken", [resets_after(0), closes_after(0), silent()])
async def test_a_backend_that_breaks_before_its_101_is_hidden(
    autojump_clock: MockClock, broken: Script
) -> None:
    pool = ECHO + '\ntimeouts = { response = "3s" }'
    async with scene({"a": broken, "b": echoes()}, pool=pool) as play:
        for _ in range(2):
            client, answer = await ask(play)
            assert answer.status == 101
            client.close()
        await play.settled()
        assert sorted(len(record.attempts) for record in play.stage.access) == [1, 2]
        assert play.at_rest()


# ---- who ends it


async def test_the_client_may_end_its_side_and_still_be_answered(autojump_clock: MockClock) -> None:
    async with scene({"a": echoes(at_end=b"bye")}, pool=ECHO) as play:
        client, _ = await ask(play)
        await client.send(b"last")
        half_close(client)
        assert await rest(client) == b"lastbye"
        await play.settled()
        assert outcome(play) == (101, "echo ended by the client", "")


async def test_the_backend_may_end_its_side_and_still_be_told(autojump_clock: MockClock) -> None:
    heard = []

    async def ends_first(line: Line, request: Request) -> bool:
        await line.send(switch("echo", request, early=b"only this"))
        line.sock.shutdown(socket.SHUT_WR)
        while data := await line.receive():
            heard.append(data)
        return False

    async with scene({"a": ends_first}, pool=ECHO) as play:
        client, _ = await ask(play)
        assert await rest(client) == b"only this"
        await trio.sleep(3)  # a sweep has looked whether the client left
        await client.send(b"and ")
        await trio.sleep(3)
        await client.send(b"this")
        client.close()
        await play.settled()
        assert b"".join(heard) == b"and this"
        assert outcome(play) == (101, "echo ended by the backend", "")
        assert play.at_rest()


async def test_a_client_that_resets_ends_it_as_a_break(autojump_clock: MockClock) -> None:
    broke = []

    async def listening(line: Line, request: Request) -> bool:
        await line.send(switch("echo", request))
        try:
            while await line.receive():
                pass
        except ConnectionResetError:
            broke.append(trio.current_time())
        return False

    async with scene({"a": listening}, pool=ECHO) as play:
        client, _ = await ask(play)
        cut(client.sock)
        client.close()
        await play.settled()
        assert len(broke) == 1
        assert outcome(play) == (101, "echo broken by the client", "broken by the client")
        assert play.at_rest()


async def test_a_backend_that_crashes_ends_it_as_a_break_and_is_not_blamed(
    autojump_clock: MockClock,
) -> None:
    async with scene({"a": echoes()}, pool=ECHO) as play:
        client, _ = await ask(play)
        await client.send(b"x")
        assert await read(client, 1) == b"x"

        async def crash(line: Line, request: Request) -> bool:
            await line.send(switch("echo", request))
            await line.receive()
            line.reset()
            return False

        play.backends["a"].script = crash
        other, _ = await ask(play)
        await other.send(b"x")
        with pytest.raises(ConnectionResetError):
            await rest(other)
        await play.settled()
        assert outcome(play) == (101, "echo broken by the backend", "broken by the backend")
        assert play.backend_status("a")["failures"] == 0
        assert play.backend_status("a")["in_flight"] == 1


async def test_a_backend_that_dies_while_the_client_sends_is_no_orderly_end(
    autojump_clock: MockClock,
) -> None:
    """The reset is told to whoever sends; whoever reads is told of an end then."""

    async def dies(line: Line, request: Request) -> bool:
        await line.send(switch("echo", request, early=b"half of it"))
        await trio.sleep(1)
        line.reset()
        return False

    async with scene({"a": dies}, pool=ECHO) as play:
        client, _ = await ask(play)
        assert await read(client, 10) == b"half of it"
        with pytest.raises(ConnectionError):
            await keep_sending(client, b"x" * 1000, every_s=0.01)
        await play.settled()
        assert outcome(play)[1] == "echo broken by the backend"


async def test_a_reset_that_was_told_to_the_sender_is_no_end_to_the_reader(
    autojump_clock: MockClock,
) -> None:
    """What came before is still on its way to the client, who does not read."""

    async def dies(line: Line, request: Request) -> bool:
        await line.send(switch("echo", request))
        with trio.move_on_after(1):
            await line.send(b"x" * 50_000_000)
        line.reset()
        return False

    async with scene({"a": dies}, pool=ECHO) as play:
        client, _ = await ask(play)
        await trio.sleep(2)
        await client.send(b"still there?")
        await play.settled()
        with pytest.raises(ConnectionResetError):
            await rest(client)
        await play.settled()
        assert outcome(play)[1] == "echo broken by the backend"
        assert play.at_rest()


async def test_a_client_that_is_done_is_not_taken_for_gone_while_its_bytes_wait(
    autojump_clock: MockClock,
) -> None:
    sent, heard = bytes(range(256)) * 200, []

    async def takes_its_time(line: Line, request: Request) -> bool:
        await line.send(switch("echo", request))
        line.sock.shutdown(socket.SHUT_WR)
        await trio.sleep(10)
        while data := await line.receive():
            heard.append(data)
        return False

    async with scene({"a": takes_its_time}, pool=ECHO) as play:
        play.network.host("10.0.0.1").receive_buffer = 4096
        play.network.own_host.send_buffer = 4096
        client, _ = await ask(play)
        assert await rest(client) == b""
        await client.send(sent)
        client.close()
        await trio.sleep(20)
        assert b"".join(heard) == sent
        assert outcome(play)[1] == "echo ended by the backend"


async def test_last_words_arrive_though_the_backend_takes_no_more(
    autojump_clock: MockClock,
) -> None:
    """It has ended in order, and answers what still comes with a reset."""

    async def closes(line: Line, request: Request) -> bool:
        await line.send(switch("echo", request))
        await line.receive()
        await line.send(b"last words")
        return False

    async with scene({"a": closes}, pool=ECHO) as play:
        client, _ = await ask(play)
        for _ in range(5):
            await client.send(b"more")
            await trio.sleep(0.01)
        assert await rest(client) == b"last words"
        await play.settled()
        assert outcome(play) == (101, "echo ended by the backend", "")
        assert play.at_rest()


async def test_a_client_that_leaves_is_noticed_though_the_backend_takes_nothing(
    autojump_clock: MockClock,
) -> None:
    async def deaf(line: Line, request: Request) -> bool:
        await line.send(switch("echo", request))
        await trio.sleep(1000)
        return False

    async with scene({"a": deaf}, pool=ECHO) as play:
        client, _ = await ask(play)
        with trio.move_on_after(2):
            await client.send(b"x" * 50_000_000)
        assert not play.at_rest()
        cut(client.sock)
        client.close()
        await trio.sleep(3)
        assert outcome(play)[1] == "echo broken by the client"
        assert play.at_rest()


async def test_a_tunnel_says_at_once_that_its_backend_works(autojump_clock: MockClock) -> None:
    pool = ECHO + "\npassive = { consecutive_failures = 2 }"
    script = in_turn(garbage(b"?"), echoes(), garbage(b"?"), answers(200))
    async with scene({"a": script, "b": answers(200)}, pool=pool) as play:
        # Without the tunnel's word between them, two failures in a row would eject it.
        play.backends["b"].kill()
        client = await play.client()
        await client.send(b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        assert (await client.answer()).status == 502
        _, answer = await ask(play)
        assert answer.status == 101
        other = await play.client()
        await other.send(b"POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        assert (await other.answer()).status == 502
        assert play.backend_status("a")["ejected"] is False


# ---- limits


async def test_a_tunnel_in_which_nothing_moves_is_closed(autojump_clock: MockClock) -> None:
    async with scene({"a": echoes()}, pool=LIMITED) as play:
        client, _ = await ask(play)
        for _ in range(3):
            await trio.sleep(8)
            await client.send(b"x")
            assert await read(client, 1) == b"x"
        began = trio.current_time()
        with pytest.raises(ConnectionResetError):
            await rest(client)
        assert trio.current_time() - began == pytest.approx(10, abs=0.1)
        await play.settled()
        assert outcome(play)[1:] == (
            "echo closed after its idle time",
            "closed after its idle time",
        )
        assert play.at_rest()


async def test_one_direction_is_enough_to_keep_it_open(autojump_clock: MockClock) -> None:
    heard: list[bytes] = []
    async with scene({"a": listens(heard, "echo")}, pool=LIMITED) as play:
        client, _ = await ask(play)
        for _ in range(5):
            await trio.sleep(8)
            await client.send(b"x")
        await play.settled()
        assert b"".join(heard) == b"x" * 5
        assert play.stage.access == []


async def test_a_busy_tunnel_is_closed_at_its_greatest_age(autojump_clock: MockClock) -> None:
    async with scene({"a": echoes()}, pool=LIMITED) as play:
        client, _ = await ask(play)
        began = trio.current_time()
        with pytest.raises(ConnectionError):
            await keep_sending(client, b"x", every_s=1)
        assert trio.current_time() - began == pytest.approx(60, abs=2)
        await play.settled()
        assert outcome(play)[1] == "echo closed at its greatest age"


async def test_the_idle_time_of_clients_between_requests_is_not_for_tunnels(
    autojump_clock: MockClock,
) -> None:
    top = '[client]\nidle_timeout = "1s"\nheader_timeout = "1s"\nbody_timeout = "1s"\n'
    async with scene({"a": echoes()}, pool=ECHO, top=top) as play:
        client, _ = await ask(play)
        await trio.sleep(600)
        await client.send(b"x")
        assert await read(client, 1) == b"x"


# ---- counted, listed, cut


async def test_a_tunnel_is_in_flight_as_long_as_it_lasts(autojump_clock: MockClock) -> None:
    async with scene({"a": echoes(), "b": echoes()}, pool=ECHO) as play:
        clients = [(await ask(play))[0] for _ in range(4)]
        await play.settled()
        assert [play.backend_status(name)["in_flight"] for name in "ab"] == [2, 2]
        # Least connections sees it, too.
        for client in clients[::2]:
            client.close()
        await play.settled()
        gone = sum(int(str(play.backend_status(name)["in_flight"])) for name in "ab")
        assert gone == 2
        for client in clients[1::2]:
            client.close()
        await play.settled()
        assert play.at_rest()


async def test_what_runs_on_a_backend_names_its_tunnels(autojump_clock: MockClock) -> None:
    async with scene({"a": echoes()}, pool=ECHO) as play:
        await ask(play)
        await trio.sleep(2)
        (row,) = await play.stage.instance.desk.running("web", "10.0.0.1:80")
        assert (row["method"], row["path"], row["protocol"]) == ("GET", "/t", "echo")
        assert row["age_s"] == pytest.approx(2, abs=0.1)


async def test_a_forced_removal_cuts_it(autojump_clock: MockClock) -> None:
    async with scene({"a": echoes()}, pool=ECHO) as play:
        client, _ = await ask(play)
        done = await play.stage.instance.desk.remove("web", "10.0.0.1:80", force=True)
        assert "1 cut" in done.message
        with pytest.raises(ConnectionResetError):
            await rest(client)
        await play.settled()
        assert outcome(play)[1] == "echo cut by the operator"
        assert play.at_rest()


async def test_a_stop_at_once_cuts_it_and_leaves_no_count(autojump_clock: MockClock) -> None:
    async with scene({"a": echoes()}, pool=ECHO) as play:
        client, _ = await ask(play)
        play.stage.instance.stop(now=True)
        with pytest.raises(ConnectionResetError):
            await rest(client)
        await play.settled()
        assert outcome(play)[1].startswith("echo c")  # cut, or closed in the same instant
        assert play.at_rest()


async def test_a_client_gone_before_its_101_is_told_of_is_no_tunnel(
    autojump_clock: MockClock,
) -> None:
    async def late(line: Line, request: Request) -> bool:
        await trio.sleep(5)
        return await echoes()(line, request)

    async with scene({"a": late}, pool=ECHO) as play:
        client = await EdgeClient.connect(play.network)
        await client.send(
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
        )
        await trio.sleep(1)
        cut(client.sock)
        client.close()
        await trio.sleep(10)
        assert play.stage.access[0].attempts[0].outcome == "client left"
        assert play.at_rest()
