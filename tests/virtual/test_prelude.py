"""What comes before HTTP: a PROXY header, from who may send it, taken to the byte."""

import socket
import struct

import pytest
import structlog
import trio
from trio.testing import MockClock

from balancer.wire.proxy_protocol import Ends, header, own_header
from tests.support.edge_client import Answer, EdgeClient, NoAnswer
from tests.support.scene import Scene, scene
from tests.support.virtual_backend import answers

pytestmark = pytest.mark.usefixtures("either_way")

LISTENER = """
[[listeners]]
bind = "127.0.0.1:8081"
proxy_protocol = "required"
proxy_protocol_from = ["127.0.0.1/32"]
"""
OF = Ends("203.0.113.7", 51000, "198.51.100.2", 443)
HEADERS = [header("v1", OF), header("v2", OF)]
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def connected(play: Scene, host: str = "127.0.0.1", port: int = 8081) -> EdgeClient:
    return await EdgeClient.connect(play.network.as_seen_from(host), port)


def told(play: Scene, name: str) -> list[str | None]:
    return [request.header(name) for request in play.backends["a"].requests]


async def ended(client: EdgeClient) -> str:
    """How a connection on which no answer comes has ended."""
    with trio.fail_after(100):
        try:
            answer = await client.answer()
        except NoAnswer as error:
            return str(error)
    return f"answered {answer.status}"


@pytest.mark.parametrize("head", HEADERS)
async def test_the_client_is_who_the_header_says(autojump_clock: MockClock, head: bytes) -> None:
    """proxy-protocol.txt 2: of a connection carried by another, for each request on it."""
    async with scene({"a": answers(200, b"hello")}, top=LISTENER) as play:
        client = await connected(play)
        await client.send(head + GET)
        assert (await client.answer()).body == b"hello"
        assert (await client.get()).status == 200
        assert told(play, "x-forwarded-for") == ["203.0.113.7"] * 2
        assert told(play, "x-real-ip") == ["203.0.113.7"] * 2
        assert [record.client for record in play.stage.access] == ["203.0.113.7"] * 2


async def test_where_the_client_came_to_is_told_too(autojump_clock: MockClock) -> None:
    """A request of HTTP/1.0 names no host; then it is the address that the client connected to."""
    async with scene({"a": answers(200)}, top=LISTENER) as play:
        client = await connected(play)
        await client.send(HEADERS[0] + b"GET / HTTP/1.0\r\n\r\n")
        await client.answer()
        assert told(play, "host") == ["198.51.100.2:443"]


@pytest.mark.parametrize("head", HEADERS)
async def test_a_header_may_come_byte_by_byte(autojump_clock: MockClock, head: bytes) -> None:
    async with scene({"a": answers(200, b"hello")}, top=LISTENER) as play:
        client = await connected(play)
        for byte in head + GET:
            await client.send(bytes([byte]))
            await trio.sleep(0.1)
        assert (await client.answer()).body == b"hello"
        assert told(play, "x-forwarded-for") == ["203.0.113.7"]


@pytest.mark.parametrize(
    "head",
    [
        own_header("v1"),
        own_header("v2"),
        header("v2", None),
        b"\r\n\r\n\0\r\nQUIT\n\x20\x11" + struct.pack("!H", 3) + b"abc",
    ],
)
async def test_a_proxy_that_speaks_for_itself_is_the_client(
    autojump_clock: MockClock, head: bytes
) -> None:
    """proxy-protocol.txt 2.1 and 2.2: UNKNOWN, UNSPEC and LOCAL leave the real addresses."""
    async with scene({"a": answers(200)}, top=LISTENER) as play:
        client = await connected(play)
        await client.send(head + GET)
        assert (await client.answer()).status == 200
        assert told(play, "x-forwarded-for") == ["127.0.0.1"]


async def test_a_client_without_an_address_is_unknown(autojump_clock: MockClock) -> None:
    async with scene({"a": answers(200)}, top='trusted_proxies = ["unix:"]\n' + LISTENER) as play:
        client = await connected(play)
        head = b"\r\n\r\n\0\r\nQUIT\n\x21\x31" + struct.pack("!H", 216) + bytes(216)
        await client.send(head + b"GET / HTTP/1.0\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n")
        assert (await client.answer()).status == 200
        assert told(play, "x-forwarded-for") == ["unknown"]
        assert told(play, "host") == ["localhost"]


async def test_who_is_not_trusted_is_turned_away_and_told_once(autojump_clock: MockClock) -> None:
    async with scene({"a": answers(200)}, top=LISTENER) as play:
        with structlog.testing.capture_logs() as lines:
            for _ in range(3):
                client = await connected(play, "10.9.9.9")
                await client.send(HEADERS[0] + GET)
                assert await ended(client) in ("end", "ConnectionResetError")
                client.close()
        assert [(line["event"], line["listener"], line["client"]) for line in lines] == [
            ("connection.turned_away", "127.0.0.1:8081", "10.9.9.9")
        ]
        assert "may send a PROXY header" in lines[0]["because"]
        assert trio.current_time() < 1
        assert play.backends["a"].requests == []
        assert play.stage.worker.turned_away.count == 3
        await trio.sleep(1)
        assert play.stage.instance.desk.status(None)["turned_away"] == 3
        assert b"balancer_connections_turned_away_total 3\n" in play.stage.instance.desk.metrics()


@pytest.mark.parametrize("sent", [GET, b"PROXY TCP4 a b 1 2\r\n" + GET, b"\x16\x03\x01\x02"])
async def test_a_connection_without_its_header_is_closed_and_nothing_is_guessed(
    autojump_clock: MockClock, sent: bytes
) -> None:
    async with scene({"a": answers(200)}, top=LISTENER) as play:
        client = await connected(play)
        with structlog.testing.capture_logs() as lines:
            await client.send(sent)
            assert await ended(client) in ("end", "ConnectionResetError")
        assert [line["event"] for line in lines] == ["connection.turned_away"]
        assert (play.backends["a"].requests, play.stage.access) == ([], [])
        service = play.stage.worker.service
        assert service.connections == 0
        assert not service.resting


async def test_a_header_where_none_is_wanted_is_a_bad_request(autojump_clock: MockClock) -> None:
    async with scene({"a": answers(200)}, top=LISTENER) as play:
        client = await connected(play, port=8080)
        await client.send(HEADERS[0] + GET)
        assert (await client.answer()).status == 400
        assert play.backends["a"].requests == []


async def test_a_header_that_does_not_come_whole_in_time_ends_the_connection(
    autojump_clock: MockClock,
) -> None:
    top = 'client = { header_timeout = "3s" }' + LISTENER
    async with scene({"a": answers(200)}, top=top) as play:
        with structlog.testing.capture_logs() as lines:
            for sent in (b"", HEADERS[0][:-1], HEADERS[1][:20]):
                client = await connected(play)
                began = trio.current_time()
                for byte in sent:
                    await client.send(bytes([byte]))
                    await trio.sleep(0.05)
                assert await ended(client) == "end"
                assert trio.current_time() - began == pytest.approx(3.0, abs=0.01)
        assert [line["because"] for line in lines] == ["it sent no whole PROXY header within 3 s"]
        assert play.stage.worker.turned_away.count == 3


async def test_who_looks_whether_somebody_listens_is_no_news(autojump_clock: MockClock) -> None:
    """Balancers in front of us probe so: they connect, and close."""
    async with scene({"a": answers(200)}, top=LISTENER) as play:
        with structlog.testing.capture_logs() as lines:
            client = await connected(play)
            client.sock.shutdown(socket.SHUT_WR)
            assert await ended(client) == "end"
        assert lines == []
        assert play.stage.worker.turned_away.count == 0


async def test_who_waits_with_its_header_does_not_hold_up_a_stop(autojump_clock: MockClock) -> None:
    async with scene({"a": answers(200)}, top=LISTENER) as play:
        client = await connected(play)
        await play.settled()
        began = trio.current_time()
        play.stage.instance.stop(now=False)
        assert await ended(client) == "end"
        assert trio.current_time() - began < 2


async def test_what_the_client_says_of_itself_is_judged_by_who_it_is(
    autojump_clock: MockClock,
) -> None:
    """Who carries a connection is not who speaks on it: its word alone makes no proxy trusted."""
    top = 'trusted_proxies = ["127.0.0.0/8", "192.0.2.1/32"]\n' + LISTENER
    async with scene({"a": answers(200)}, top=top) as play:
        for client_address in ("203.0.113.7", "192.0.2.1"):
            client = await connected(play)
            await client.send(header("v2", OF._replace(client=client_address)))
            await client.get("/", "X-Forwarded-For: 6.6.6.6")
        assert told(play, "x-forwarded-for") == ["203.0.113.7", "6.6.6.6, 192.0.2.1"]


async def test_other_trusts_hold_for_the_next_connection(autojump_clock: MockClock) -> None:
    async with scene({"a": answers(200)}, top=LISTENER) as play:
        kept = await connected(play)
        await kept.send(HEADERS[1])
        assert (await kept.get()).status == 200
        config = play.stage.config
        assert isinstance(config, str)
        play.stage.config = config.replace('"127.0.0.1/32"', '"10.0.0.0/8"')
        await play.stage.instance.desk.reload()
        assert (await kept.get()).status == 200
        assert await ended(await connected(play)) == "end"
        other = await connected(play, "10.9.9.9")
        await other.send(HEADERS[1])
        assert isinstance(await other.get(), Answer)
