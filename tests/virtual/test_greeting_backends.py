"""PROXY headers to backends: whom each connection is for, and that it is for nobody else."""

import struct

import pytest
import trio
from trio.testing import MockClock

from balancer.wire.proxy_protocol import Ends, Version, header
from tests.support.edge_client import EdgeClient
from tests.support.scene import Scene, scene
from tests.support.virtual_backend import answers, closes_after, in_turn, response

pytestmark = pytest.mark.usefixtures("either_way")

VERSIONS: list[Version] = ["v1", "v2"]
V2 = 'proxy_protocol = "v2"\n'
LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"
UNSPECIFIED = b"\r\n\r\n\0\r\nQUIT\n\x21\0\0\0"
REQUIRED = """
[[listeners]]
bind = "127.0.0.1:8081"
proxy_protocol = "required"
proxy_protocol_from = ["127.0.0.1/32"]
"""


def ends_of(client: EdgeClient) -> Ends:
    name = client.sock.getsockname()
    assert isinstance(name, tuple)
    return Ends(name[0], name[1], "127.0.0.1", 8080)


def connections(play: Scene) -> list[int]:
    return [request.connection for request in play.backends["a"].requests]


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_backend_is_told_who_the_client_is(
    autojump_clock: MockClock, version: Version
) -> None:
    """proxy-protocol.txt 2: once, before anything else, and both ends of the client's connection."""
    pool = f'proxy_protocol = "{version}"\n'
    async with scene({"a": answers(200, b"1")}, pool=pool, greeted=True) as play:
        client = await EdgeClient.connect(play.network.as_seen_from("10.9.9.9"))
        assert [(await client.get()).body for _ in range(3)] == [b"1"] * 3
        assert play.backends["a"].greetings == [header(version, ends_of(client))]
        assert ends_of(client).client == "10.9.9.9"
        assert play.backends["a"].requests[0].header("x-forwarded-for") == "10.9.9.9"
        assert play.at_rest()


async def test_a_connection_serves_one_client_and_ends_with_it(autojump_clock: MockClock) -> None:
    async with scene({"a": answers(200)}, pool=V2, greeted=True) as play:
        one, two = await play.client(), await play.client()
        for _ in range(2):
            await one.get()
            await two.get()
        assert connections(play) == [1, 2, 1, 2]
        assert play.backends["a"].greetings == [header("v2", ends_of(each)) for each in (one, two)]
        one.close()
        await trio.sleep(1)
        assert play.backends["a"].open_connections == 1
        await two.get()
        assert connections(play)[-1] == 2
        two.close()
        await trio.sleep(1)
        assert play.backends["a"].open_connections == 0
        assert play.stage.worker.service.idle.count() == 0


async def test_without_it_clients_share(autojump_clock: MockClock) -> None:
    async with scene({"a": answers(200)}) as play:
        for _ in range(3):
            await (await play.client()).get()
        assert connections(play) == [1, 1, 1]


@pytest.mark.parametrize("version", VERSIONS)
async def test_what_a_proxy_before_us_said_goes_on(
    autojump_clock: MockClock, version: Version
) -> None:
    ends = Ends("2001:db8::7", 51000, "2001:db8::80", 443)
    async with scene({"a": answers(200)}, pool=V2, top=REQUIRED, greeted=True) as play:
        client = await EdgeClient.connect(play.network, 8081)
        await client.send(header(version, ends))
        await client.get()
        assert play.backends["a"].greetings == [header("v2", ends)]


async def test_a_client_without_an_address_is_told_so(autojump_clock: MockClock) -> None:
    async with scene({"a": answers(200)}, pool=V2, top=REQUIRED, greeted=True) as play:
        client = await EdgeClient.connect(play.network, 8081)
        await client.send(b"\r\n\r\n\0\r\nQUIT\n\x21\x31" + struct.pack("!H", 216) + bytes(216))
        await client.get()
        assert play.backends["a"].greetings == [UNSPECIFIED]


async def test_too_many_resting_connections_give_way_by_age(autojump_clock: MockClock) -> None:
    """Those of clients that have fallen silent must not keep others from a second request."""
    pool = V2 + "connections = { idle_max = 2 }\n"
    async with scene({"a": answers(200)}, pool=pool, greeted=True) as play:
        clients = [await play.client() for _ in range(3)]
        for client in clients:
            await client.get()
        await play.settled()
        assert play.backends["a"].open_connections == 2
        for client in reversed(clients):
            await client.get()
        assert connections(play) == [1, 2, 3, 3, 2, 4]


@pytest.mark.parametrize("idle_max", [0, 1])
async def test_none_rest_where_none_may(autojump_clock: MockClock, idle_max: int) -> None:
    pool = V2 + f"connections = {{ idle_max = {idle_max} }}\n"
    async with scene({"a": answers(200)}, pool=pool, greeted=True) as play:
        client = await play.client()
        for _ in range(2):
            await client.get()
        assert connections(play) == ([1, 1] if idle_max else [1, 2])


async def test_a_repeat_introduces_the_client_again(autojump_clock: MockClock) -> None:
    broken_first = in_turn(closes_after(0), answers(200, b"late"))
    async with scene({"a": broken_first}, pool=V2, greeted=True) as play:
        client = await play.client()
        assert (await client.get()).body == b"late"
        assert play.backends["a"].greetings == [header("v2", ends_of(client))] * 2
        assert play.at_rest()


async def test_a_reload_takes_no_connection_that_was_made_for_all(
    autojump_clock: MockClock,
) -> None:
    async with scene({"a": answers(200)}) as play:
        client = await play.client()
        await client.get()
        assert isinstance(play.stage.config, str)
        play.stage.config += V2
        await play.stage.instance.desk.reload()
        play.backends["a"].greeted = True
        await client.get()
        await client.get()
        assert connections(play) == [1, 2, 2]
        assert play.backends["a"].greetings == [header("v2", ends_of(client))]
        play.stage.config = play.stage.config.removesuffix(V2)
        await play.stage.instance.desk.reload()
        play.backends["a"].greeted = False
        await client.get()
        assert connections(play) == [1, 2, 2, 3]


# ---- probes --------------------------------------------------------------------------------------

CHECKS = '[pools.web.health]\ninterval = "10s"\n'


@pytest.mark.parametrize(("version", "own"), [("v1", b"PROXY UNKNOWN\r\n"), ("v2", LOCAL)])
@pytest.mark.parametrize("kind", ["http", "tcp"])
async def test_probes_say_that_they_speak_for_us(
    autojump_clock: MockClock, version: str, own: bytes, kind: str
) -> None:
    """proxy-protocol.txt 2.2: a health check is LOCAL; version 1 has no word but UNKNOWN."""
    pool = f'proxy_protocol = "{version}"\n{CHECKS}type = "{kind}"\n'
    async with scene({"a": answers(200)}, pool=pool, greeted=True) as play:
        await trio.sleep(35)
        assert play.backends["a"].greetings == [own] * 4
        assert play.backend_status("a")["health"] == "healthy"


async def test_a_port_of_its_own_for_probes_is_no_part_of_it(autojump_clock: MockClock) -> None:
    pool = f"{V2}{CHECKS}port = 81\n"
    heard: list[bytes] = []
    async with scene({"a": answers(200)}, pool=pool) as play:
        view = play.network.as_seen_from("10.0.0.1")
        async with trio.open_nursery() as nursery:
            with view.install_for_trio():
                nursery.start_soon(trio.serve_listeners, _note(heard), await _listen())
                await trio.sleep(15)
            nursery.cancel_scope.cancel()
    assert heard
    assert all(raw.startswith(b"GET / HTTP/1.1\r\n") for raw in heard)


async def _listen() -> list[trio.SocketListener]:
    return await trio.open_tcp_listeners(81, host="10.0.0.1")


def _note(heard: list[bytes]):
    async def serve(stream: trio.SocketStream) -> None:
        heard.append(bytes(await stream.receive_some(1000)))
        await stream.send_all(response(200, b"ok"))

    return serve
