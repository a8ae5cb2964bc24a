"""httpx and trio's own streams run on the memory network, and meet its faults as their own errors."""

import socket
from functools import partial

import httpx
import pytest
import trio

from balancer.rehearsal.links import Fault
from balancer.rehearsal.memory_network import MemoryNetwork
from tests.support.virtual_backend import VirtualBackend, answers, resets_after, silent, trickles

URL = "http://10.0.0.1:80/health"


@pytest.fixture
def network() -> MemoryNetwork:
    return MemoryNetwork(seed=3)


@pytest.fixture
def link(network):
    return network.link("127.0.0.1", "10.0.0.1")


async def fetch(network: MemoryNetwork, url: str = URL) -> httpx.Response:
    with network.install_for_trio():
        async with httpx.AsyncClient(trust_env=False, timeout=2) as client:
            return await client.get(url)


async def test_httpx_fetches_an_answer(network, nursery, autojump_clock):
    backend = VirtualBackend(network, "10.0.0.1:80", answers(200, b"well"))
    await nursery.start(backend.run)
    response = await fetch(network)
    assert (response.status_code, response.content) == (200, b"well")
    [request] = backend.requests
    assert request.raw.startswith(b"GET /health HTTP/1.1\r\nHost: 10.0.0.1\r\n")
    nursery.cancel_scope.cancel()


async def test_httpx_resolves_names_through_the_table(network, nursery, autojump_clock):
    network.name("web.test", ["10.0.0.1"])
    backend = VirtualBackend(network, "10.0.0.1:80", answers(204))
    await nursery.start(backend.run)
    assert (await fetch(network, "http://web.test/")).status_code == 204
    with pytest.raises(httpx.ConnectError):
        await fetch(network, "http://nobody.test/")
    nursery.cancel_scope.cancel()


async def test_httpx_reuses_a_connection_and_notices_that_it_was_closed(
    network, nursery, autojump_clock
):
    backend = VirtualBackend(network, "10.0.0.1:80", answers(200, b"x"), idle_s=5)
    await nursery.start(backend.run)
    with network.install_for_trio():
        async with httpx.AsyncClient(trust_env=False) as client:
            for pause in (1, 10, 0):
                assert (await client.get(URL)).content == b"x"
                await trio.sleep(pause)
    assert [request.connection for request in backend.requests] == [1, 1, 2]
    nursery.cancel_scope.cancel()


async def test_nobody_listening_is_a_connect_error(network, autojump_clock):
    network.host("10.0.0.1")
    with pytest.raises(httpx.ConnectError):
        await fetch(network)
    assert trio.current_time() == 0


async def test_a_hung_connect_is_a_connect_timeout(network, link, autojump_clock):
    link.fault = Fault.HANGS
    with pytest.raises(httpx.ConnectTimeout):
        await fetch(network)
    assert trio.current_time() == 2
    assert network.own_host.open_sockets() == ()


async def test_a_silent_backend_is_a_read_timeout(network, nursery, autojump_clock):
    backend = VirtualBackend(network, "10.0.0.1:80", silent())
    await nursery.start(backend.run)
    with pytest.raises(httpx.ReadTimeout):
        await fetch(network)
    assert trio.current_time() == 2
    nursery.cancel_scope.cancel()


async def test_a_partition_is_a_read_timeout(network, link, nursery, autojump_clock):
    backend = VirtualBackend(network, "10.0.0.1:80", answers(200, after_s=1))
    await nursery.start(backend.run)
    nursery.start_soon(_partition_later, link)
    with pytest.raises(httpx.ReadTimeout):
        await fetch(network)
    nursery.cancel_scope.cancel()


async def _partition_later(link) -> None:
    await trio.sleep(0.5)
    link.fault = Fault.PARTITIONED


async def test_a_reset_is_a_read_error(network, nursery, autojump_clock):
    backend = VirtualBackend(network, "10.0.0.1:80", resets_after(10))
    await nursery.start(backend.run)
    with pytest.raises(httpx.ReadError):
        await fetch(network)
    nursery.cancel_scope.cancel()


async def test_a_slow_body_takes_virtual_time_only(network, nursery, autojump_clock):
    backend = VirtualBackend(network, "10.0.0.1:80", trickles(b"x" * 600, piece=10, every_s=1))
    await nursery.start(backend.run)
    assert len((await fetch(network)).content) == 600
    assert trio.current_time() == pytest.approx(60, abs=1)
    nursery.cancel_scope.cancel()


async def _echo(stream: trio.abc.Stream) -> None:
    async for data in stream:
        await stream.send_all(data)


async def test_trio_listeners_and_streams_run_on_it(network, nursery, autojump_clock):
    with network.install_for_trio():
        serve = partial(trio.serve_tcp, _echo, 0, host="127.0.0.1")
        listeners = await nursery.start(serve)
        port = listeners[0].socket.getsockname()[1]
        stream = await trio.open_tcp_stream("localhost", port)
        await stream.send_all(b"x" * 300_000)
        await stream.send_eof()
        assert sum([len(data) async for data in stream]) == 300_000
        await stream.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await stream.receive_some()
        nursery.cancel_scope.cancel()


async def test_closing_a_stream_wakes_its_reader(network, nursery, autojump_clock):
    with network.install_for_trio():
        listeners = await nursery.start(partial(trio.serve_tcp, _echo, 0, host="127.0.0.1"))
        stream = await trio.open_tcp_stream(*listeners[0].socket.getsockname())
        async with trio.open_nursery() as readers:
            readers.start_soon(_expect_closed, stream)
            await trio.sleep(1)
            await stream.aclose()
        nursery.cancel_scope.cancel()


async def _expect_closed(stream: trio.SocketStream) -> None:
    with pytest.raises(trio.ClosedResourceError):
        await stream.receive_some()


async def test_datagrams_are_refused_and_the_kernel_comes_back_afterwards(network, autojump_clock):
    with network.install_for_trio(), pytest.raises(OSError, match="stream sockets only"):
        trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with trio.socket.socket() as sock:
        assert sock.fileno() < 1_000_000
