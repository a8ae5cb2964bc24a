"""A coded connection that wants to write before it can read: nobody's peer does so at will."""

import socket
import ssl

import pytest
import trio

from balancer.rehearsal.memory_network import MemoryNetwork
from balancer.wire.handshake import handshake
from balancer.wire.network import Sock, TlsSock
from balancer.wire.streams import receive
from balancer.wire.tls_engine import Engine
from balancer.wire.tls_socket import Coded, WantsWrite
from balancer.wire.waiting import Timekeeper, Waiter
from tests.support.certificates import client_context, server_context


class ChangesKeys(Engine):
    """Must write before it reads, as when the peer has asked for other keys."""

    blocked = False

    def read(self, size: int, /) -> bytes:
        if self.blocked:
            raise ssl.SSLWantWriteError
        return super().read(size)


async def test_a_read_that_wants_to_write_waits_until_it_can(autojump_clock):
    network = MemoryNetwork(seed=1)
    ours, theirs, engine = await changing_pair(network)
    engine.blocked = True
    theirs.send(b"question")
    below = ours.below
    while True:
        try:
            below.send(b"x" * 4096)
        except BlockingIOError:
            break
    heard: list[bytes] = []

    async def reads() -> None:
        heard.append(await receive(ours, Waiter(Timekeeper(network)), trio.current_time() + 60))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reads)
        await trio.sleep(1)
        assert not heard, "there are bytes, but no room"
        engine.blocked = False
        while True:
            try:
                theirs.below.recv(4096)
            except BlockingIOError:
                break
    assert heard == [b"question"]
    for sock in (ours, theirs):
        sock.close()


async def test_a_read_leaves_alone_what_a_send_has_left(autojump_clock):
    """Else two tasks would wait to write, and who sends before it reads would never be heard."""
    network = MemoryNetwork(seed=1)
    ours, theirs, _ = await changing_pair(network)
    while True:
        try:
            ours.send(b"x" * 4096)
        except BlockingIOError:
            break
    with pytest.raises(BlockingIOError) as nothing:
        ours.recv(100)
    assert not isinstance(nothing.value, WantsWrite)
    theirs.send(b"question")
    assert ours.recv(100) == b"question"
    for sock in (ours, theirs):
        sock.close()


async def changing_pair(network: MemoryNetwork) -> tuple[Coded, Coded, ChangesKeys]:
    listener = network.socket(socket.AF_INET)
    listener.bind(("127.0.0.1", 443))
    listener.listen(1)
    near = network.socket(socket.AF_INET)
    near.connect_ex(("127.0.0.1", 443))
    far, _ = listener.accept()
    listener.close()
    engine = ChangesKeys(far, server_context(), server_side=True, server_hostname=None)
    ours = Coded(engine, far)
    theirs = network.coded(near, client_context(), server_side=False, server_hostname="edge.test")
    async with trio.open_nursery() as nursery:
        for sock in (ours, theirs):
            nursery.start_soon(shake, sock, network)
    return ours, theirs, engine


async def shake(sock: TlsSock, network: MemoryNetwork) -> None:
    await handshake(sock, Waiter(Timekeeper(network)), trio.current_time() + 5)


def test_what_carries_a_coded_socket_is_a_socket():
    network = MemoryNetwork(seed=1)
    below: Sock = network.socket(socket.AF_INET)
    coded = network.coded(below, server_context(), server_side=True)
    assert coded.below is below
    assert coded.fileno() == below.fileno()
    coded.close()
    assert below.fileno() == -1
