"""Peers that change keys and take nothing, or send records of a byte, wherever we read from them.

Somebody else may be sending on the same connection then, and only one can wait for room to write.
"""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from balancer.wire.tls_socket import RECORDS_AT_ONCE, Coded
from tests.support.certificates import client_context, files_for, server_context
from tests.support.changed_keys import ChangedKeys, ToldKeys
from tests.support.edge_client import EdgeClient
from tests.support.raw_backend import head_of, raw
from tests.support.scene import Scene, scene
from tests.support.tunnel_ends import ECHO, KEY, echoes, read
from tests.support.virtual_backend import Line, Request, Script, answers, response

TLS = """
[[listeners]]
bind = "127.0.0.1:8443"
[listeners.tls]
certificates = [{ certificate = "/main.pem", key = "/main.key" }]
"""
PING = b"\x89\x80mask"
LARGE = b"\x89\x00" * 100_000
MANY = b"m" * (3 * RECORDS_AT_ONCE)


@asynccontextmanager
async def play_scene(
    script: Script, *, narrow: bool = False, pool: str = ECHO, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Scene]:
    files = files_for(main="a.test")
    async with scene({"a": script}, pool=pool, top=TLS, files=files, tls=tls) as play:
        if narrow:
            play.network.own_host.send_buffer = play.network.own_host.receive_buffer = 4096
        yield play
        await play.settled()
        assert play.stage.instance.desk.status(None)["connection_crashes"] == 0
        assert play.at_rest()


class Changer:
    """A client that changes keys on and on, and takes nothing."""

    def __init__(self, client: EdgeClient, told: ToldKeys) -> None:
        assert isinstance(client.sock, Coded)
        self.keys = ChangedKeys(client.sock, told)
        self._below = client.sock.below
        self._wait = client.network.wait_writable
        self._sock = client.sock

    async def says(self, *records: bytes) -> None:
        view = memoryview(b"".join(records))
        while view:
            try:
                view = view[self._below.send(view) :]
            except BlockingIOError:
                await self._wait(self._sock)

    async def until_it_is_cut(self) -> int:
        """How many changes that took."""
        changes = 0
        try:
            while changes < 100_000:
                changes += 20
                await self.says(*(self.keys.change() for _ in range(20)), self.keys.data(PING))
                await trio.sleep(0.01)
        except OSError:
            pass
        return changes


@asynccontextmanager
async def changer(play: Scene) -> AsyncIterator[Changer]:
    told = ToldKeys()
    client = await EdgeClient.connect(play.network, 8443)
    await client.speak_tls(told.context, "a.test")
    yield Changer(client, told)
    client.close()
    told.close()


def asks_for(protocol: str) -> bytes:
    fields = f"Connection: Upgrade\r\nUpgrade: {protocol}\r\n"
    if protocol == "websocket":
        fields += f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n"
    return f"GET / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n".encode()


@pytest.mark.parametrize("protocol", ["echo", "websocket"])
async def test_a_tunnel_is_broken_by_who_changes_keys_on_and_on(
    autojump_clock: MockClock, protocol: str
) -> None:
    async with play_scene(echoes(protocol, early=LARGE), narrow=True) as play:
        async with changer(play) as client:
            await client.says(client.keys.data(asks_for(protocol)))
            await trio.sleep(1)
            assert await client.until_it_is_cut() < 3000
            await play.settled()
        record = play.stage.access[-1]
        assert (record.status, record.fault) == (101, "broken by the client")
        assert record.attempts[-1].outcome == f"{protocol} broken by the client"


async def answers_the_head(line: Line) -> None:
    await head_of(line)
    await line.send(response(200, LARGE))
    while await line.receive():
        pass


async def test_an_upload_beside_an_answer_that_is_not_taken_ends_as_one_whose_client_stalls(
    autojump_clock: MockClock,
) -> None:
    async with play_scene(echoes(), narrow=True) as play:
        await raw(play, "a", answers_the_head)
        async with changer(play) as client:
            head = b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n"
            await client.says(client.keys.data(head + b"FFFFFF\r\n"))
            await trio.sleep(1)
            assert await client.until_it_is_cut() < 100_000
            await play.settled()
        record = play.stage.access[-1]
        assert record.status == 200
        assert record.fault.startswith("client stalled: kept us waiting for 60 s")


# ---- records of a byte: more than are read at a time


async def in_small_records(client: EdgeClient, said: bytes) -> None:
    for at in range(len(said)):
        await client.send(said[at : at + 1])


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\nHost: a.test\r\nCookie: " + MANY + b"\r\n\r\n",
        b"PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: %d\r\n\r\n" % len(MANY) + MANY,
        b"PUT / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"1\r\nm\r\n" * len(MANY)
        + b"0\r\n\r\n",
    ],
    ids=["head", "body", "chunks"],
)
async def test_a_request_in_records_of_a_byte_is_served(
    autojump_clock: MockClock, said: bytes
) -> None:
    async with play_scene(answers(200, b"hello")) as play:
        client = await EdgeClient.connect(play.network, 8443)
        await client.speak_tls(client_context(), "a.test")
        for _ in range(2):
            await in_small_records(client, said)
            assert (await client.answer()).body == b"hello"
        client.close()


async def test_a_tunnel_passes_records_of_a_byte_while_nothing_is_taken(
    autojump_clock: MockClock,
) -> None:
    async with play_scene(echoes(early=LARGE)) as play:
        play.network.own_host.send_buffer = 4096
        client = await EdgeClient.connect(play.network, 8443)
        await client.speak_tls(client_context(), "a.test")
        await client.send(asks_for("echo"))
        assert (await client.answer()).status == 101
        await trio.sleep(1)
        await in_small_records(client, MANY)
        await trio.sleep(1)
        assert await read(client, len(LARGE + MANY)) == LARGE + MANY
        client.close()


async def test_an_answer_in_records_of_a_byte_is_passed_on(
    autojump_clock: MockClock, either_way: None
) -> None:
    async def in_bytes(line: Line, request: Request) -> bool:
        for byte in response(200, MANY, (("X-Many", MANY.decode()),)):
            await line.send(bytes([byte]))
        return True

    tls, pool = server_context("10.0.0.1"), 'tls = { ca = "/ca.pem" }'
    async with play_scene(in_bytes, pool=pool, tls=tls) as play:
        client = await play.client()
        for _ in range(3):
            answer = await client.get()
            assert (answer.body, answer.header("x-many")) == (MANY, MANY.decode())
        client.close()
