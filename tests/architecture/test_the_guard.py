"""The guard around the tests holds: nothing leaves the machine, whichever library tries."""

import socket

import pytest
import trio

from tests.conftest import LeftTheMachine, is_loopback


@pytest.mark.parametrize(
    "address",
    [
        ("127.0.0.1", 80),
        ("127.9.9.9", 80),
        ("::1", 80, 0, 0),
        ("::ffff:127.0.0.1", 80),
        "/run/x",
        b"\0x",
    ],
)
def test_our_own_machine_is_fine(address: object) -> None:
    assert is_loopback(address)


@pytest.mark.parametrize("address", [("10.0.0.1", 80), ("2001:db8::1", 80), ("example.com", 80)])
def test_another_machine_is_not(address: object) -> None:
    assert not is_loopback(address)


def test_a_connect_elsewhere_is_stopped() -> None:
    with socket.socket() as sock, pytest.raises(LeftTheMachine):
        sock.connect(("192.0.2.1", 9))


async def test_trio_does_not_get_around_it() -> None:
    with pytest.RaisesGroup(LeftTheMachine):
        await trio.open_tcp_stream("192.0.2.1", 9)
