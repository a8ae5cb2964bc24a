"""The socket suite on the operating system's loopback."""

import socket
import struct

import pytest
import trio

from balancer.wire.network import KernelNetwork, Sock
from tests.support.socket_suite import CASES, Case

# One BPF instruction, "accept zero bytes": a socket with this filter loses every packet, unseen by
# the program, as if its host had vanished. No privilege is needed.
_DROP_ALL = struct.pack("HBBI", 0x06, 0, 0, 0)
_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27


class KernelBench:
    """Loopback with time for the packets of a busy machine to arrive."""

    def __init__(self) -> None:
        self.network = KernelNetwork()

    async def settle(self) -> None:
        await trio.sleep(0.005)

    def hide(self, *socks: Sock) -> None:
        import ctypes

        program = ctypes.create_string_buffer(_DROP_ALL)
        for sock in socks:
            sock.setsockopt(
                socket.SOL_SOCKET,
                _SO_ATTACH_FILTER,
                struct.pack("HL", 1, ctypes.addressof(program)),
            )

    def show(self, *socks: Sock) -> None:
        for sock in socks:
            sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
async def test_the_kernel(case: Case):
    with trio.fail_after(10):
        await case(KernelBench())
