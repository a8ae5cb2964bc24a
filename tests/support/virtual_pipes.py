"""Pipes of the memory network, and a splice() that moves bytes through them from socket to socket."""

from itertools import count
from types import SimpleNamespace

import pytest

from balancer.rehearsal.memory_network import MemoryNetwork
from balancer.rehearsal.tcp_socket import TcpSock
from balancer.wire import splice
from balancer.wire.pipes import Pipe, Pipes

SIZE_BYTES = 128 * 1024
# No socket of the memory network has such a number.
FIRST_NUMBER = -1000


class VirtualPipe(Pipe):
    """A buffer with two ends."""

    def __init__(self, number: int) -> None:
        self.inlet, self.outlet, self.size = number, number - 1, SIZE_BYTES
        self.buffer = bytearray()

    def held(self) -> int:
        return len(self.buffer)

    def close(self) -> None:
        self.buffer.clear()


class VirtualPipes(Pipes):
    """As many as are asked for."""

    def __init__(self, network: MemoryNetwork) -> None:
        super().__init__()
        self._network = network
        self._numbers = count(FIRST_NUMBER, -2)
        self._ends: dict[int, VirtualPipe] = {}

    def take(self) -> Pipe | None:
        pipe = VirtualPipe(next(self._numbers))
        self._ends |= {pipe.inlet: pipe, pipe.outlet: pipe}
        self._in_use += 1
        return pipe

    def splice(self, source: int, sink: int, count: int, *, flags: int = 0) -> int:
        if (pipe := self._ends.get(source)) is not None:
            sent = self._sock(sink).send(bytes(pipe.buffer[:count]))
            del pipe.buffer[:sent]
            return sent
        pipe = self._ends[sink]
        data = self._sock(source).recv(min(count, SIZE_BYTES - len(pipe.buffer)))
        pipe.buffer += data
        return len(data)

    def _sock(self, number: int) -> TcpSock:
        socks = self._network.own_host.open_sockets()
        sock = next(sock for sock in socks if sock.fileno() == number)
        assert isinstance(sock, TcpSock)
        return sock


def lay_pipes(network: MemoryNetwork, patch: pytest.MonkeyPatch) -> VirtualPipes:
    """Let bodies of this network pass through pipes."""
    pipes = VirtualPipes(network)
    patch.setattr(network, "pipes", lambda _source, _sink: pipes, raising=False)
    fake = SimpleNamespace(splice=pipes.splice)
    patch.setattr(splice, "os", fake)
    return pipes
