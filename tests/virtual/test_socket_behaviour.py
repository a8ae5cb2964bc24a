"""The socket suite on the memory network, in virtual time."""

import pytest
import trio

from balancer.rehearsal.links import Fault
from balancer.rehearsal.memory_network import MemoryNetwork
from balancer.wire.network import Sock
from tests.support.socket_suite import CASES, Case


class MemoryBench:
    """The default host's own loopback."""

    def __init__(self, latency_s: float) -> None:
        self.network = MemoryNetwork(seed=1)
        self._loopback = self.network.link("127.0.0.1", "127.0.0.1")
        self._loopback.latency_s = latency_s

    async def settle(self) -> None:
        await trio.sleep(0.005)

    def hide(self, *_: Sock) -> None:
        self._loopback.fault = Fault.PARTITIONED

    def show(self, *_: Sock) -> None:
        self._loopback.fault = Fault.NONE


@pytest.mark.parametrize("latency_s", [0.0, 0.0005])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
async def test_the_memory_network(case: Case, latency_s: float, autojump_clock: object):
    with trio.fail_after(10):
        bench = MemoryBench(latency_s)
        await case(bench)
        assert bench.network.own_host.open_sockets() == ()
