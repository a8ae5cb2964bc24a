"""Which socket clients come to, on the kernel: each place is steered apart from all others."""

import socket
from collections.abc import Iterator

import pytest

from balancer.supervisor.listening import Listening
from balancer.supervisor.steering import Steering
from balancer.wire.network import KernelNetwork
from balancer.worker.messages import SHARED, SocketKey
from tests.support.real_balancer import free_port

SLOTS = (0, 1, 2, 3)
CLIENTS = 80


@pytest.fixture
def listening() -> Iterator[Listening]:
    """One place on an address, and all addresses of both families at one port."""
    found = Listening(KernelNetwork(), {}, ())
    port = free_port()
    found.open([f"127.0.0.1:{free_port()}", f"0.0.0.0:{port}", f"[::]:{port}"], SLOTS)
    yield found
    found.close_all()


def reached(listening: Listening) -> dict[str, set[int]]:
    """By place, the slots whose sockets the next clients come to."""
    found: dict[str, set[int]] = {}
    for bind in {key.bind for key in listening.sockets}:
        sock = listening.sockets[SocketKey(bind, 0)]
        name = sock.getsockname()
        assert isinstance(name, tuple)
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(name[0], name[0])
        clients = [socket.create_connection((host, name[1])) for _ in range(CLIENTS)]
        found[bind] = {
            key.slot for key in listening.sockets if key.bind == bind and came_to(key, listening)
        }
        for client in clients:
            client.close()
    return found


def came_to(key: SocketKey, listening: Listening) -> bool:
    came = False
    while True:
        try:
            client, _ = listening.sockets[key].accept()
        except BlockingIOError:
            return came
        client.close()
        came = True


def test_clients_are_kept_away_from_some_sockets_of_each_place(listening: Listening) -> None:
    steering = Steering(KernelNetwork(), listening)
    one, four, six = dict.fromkeys(key.bind for key in listening.sockets)
    assert reached(listening) == {one: set(SLOTS), four: set(SLOTS), six: set(SLOTS)}
    leaving = [SocketKey(one, 3), SocketKey(four, 2), SocketKey(four, 3), SocketKey(six, 1)]
    assert steering.away_from(leaving)
    steered = {one: {0, 1, 2}, four: {0, 1}, six: set(SLOTS)}
    assert reached(listening) == steered, (
        "of the last place, the sockets that stay are not the first"
    )
    steering.end()
    assert reached(listening) == {one: set(SLOTS), four: set(SLOTS), six: set(SLOTS)}


def test_what_another_process_has_left_is_ended(listening: Listening) -> None:
    places = {key.bind for key in listening.sockets}
    Steering(KernelNetwork(), listening).away_from(
        [key for key in listening.sockets if key.slot > 0]
    )
    assert reached(listening) == {key: {0} for key in places}
    Steering(KernelNetwork(), listening).end_what_was_left(places)
    assert reached(listening) == {key: set(SLOTS) for key in places}


def test_a_socket_that_no_other_shares_a_place_with_is_left_alone() -> None:
    given = socket.create_server(("127.0.0.1", 0))
    listening = Listening(KernelNetwork(), {SocketKey("a:80", SHARED): given}, ())
    steering = Steering(KernelNetwork(), listening)
    steering.end_what_was_left(["a:80"])
    assert not steering.away_from([SocketKey("a:80", SHARED)])
    listening.close_all()
