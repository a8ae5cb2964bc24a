"""What the memory network has beyond sockets: hosts, names, links, faults, limits, virtual time."""

import errno
import socket

import pytest
import trio

from balancer.rehearsal.links import Fault
from balancer.rehearsal.memory_network import HostNetwork, MemoryNetwork
from balancer.wire.network import Network, Sock
from tests.support.socket_suite import attempt

BACKEND = ("10.0.0.1", 80)


def listening(network: MemoryNetwork, address=BACKEND, backlog: int = 9) -> Sock:
    view = network.as_seen_from(address[0])
    family = socket.AF_INET6 if len(address) == 4 else socket.AF_INET
    listener = view.socket(family)
    listener.bind(address)
    listener.listen(backlog)
    return listener


async def dial(network: Network, address=BACKEND) -> tuple[Sock, int]:
    """A socket and the errno that its connect ended with; zero is success."""
    sock = network.socket(socket.AF_INET6 if len(address) == 4 else socket.AF_INET)
    error = sock.connect_ex(address)
    if error == errno.EINPROGRESS:
        await network.wait_writable(sock)
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return sock, error


async def pair(network: MemoryNetwork) -> tuple[Sock, Sock]:
    listener = listening(network)
    client, error = await dial(network)
    assert error == 0
    await network.wait_readable(listener)
    accepted, _ = listener.accept()
    listener.close()
    return client, accepted


@pytest.fixture
def network() -> MemoryNetwork:
    return MemoryNetwork(seed=7)


@pytest.fixture
def link(network):
    return network.link("127.0.0.1", "10.0.0.1")


async def test_a_connect_takes_one_round_trip_and_bytes_one_way(network, link, autojump_clock):
    link.latency_s = 0.03
    listener = listening(network)
    client, error = await dial(network)
    assert error == 0
    assert trio.current_time() == pytest.approx(0.06)
    client.send(b"hello")
    await network.wait_readable(listener)
    accepted, _ = listener.accept()
    await network.wait_readable(accepted)
    assert accepted.recv(9) == b"hello"
    assert trio.current_time() == pytest.approx(0.09)


async def test_a_refusal_takes_a_round_trip_too(network, link, autojump_clock):
    link.latency_s = 0.03
    network.host("10.0.0.1")
    _, error = await dial(network)
    assert error == errno.ECONNREFUSED
    assert trio.current_time() == pytest.approx(0.06)


async def test_bytes_stay_in_order_when_latency_shrinks_and_jitters(network, link, autojump_clock):
    client, accepted = await pair(network)
    received = b""
    for number in range(50):
        link.latency_s, link.jitter_s = 0.05 / (number + 1), 0.02
        client.send(bytes([number]))
    client.close()
    while True:
        await network.wait_readable(accepted)
        if not (more := accepted.recv(7)):
            break
        received += more
    assert received == bytes(range(50))


async def test_a_later_packet_does_not_hurry_an_earlier_one(network, link, autojump_clock):
    client, accepted = await pair(network)
    link.latency_s = 1.0
    client.send(b"slow")
    link.latency_s = 0.1
    client.send(b" and fast")
    await network.wait_readable(accepted)
    assert trio.current_time() == pytest.approx(1.0)
    assert accepted.recv(99)[:4] == b"slow"


async def test_an_address_that_no_host_has_is_unreachable_after_three_seconds(
    network, autojump_clock
):
    _, error = await dial(network, ("203.0.113.9", 80))
    assert error == errno.EHOSTUNREACH
    assert trio.current_time() == pytest.approx(3)


async def test_a_host_without_the_family_has_no_route(network):
    sock = network.as_seen_from("10.0.0.1").socket(socket.AF_INET6)
    assert sock.connect_ex(("::1", 80, 0, 0)) == errno.ENETUNREACH


async def test_ipv6_hosts_talk(network):
    listener = listening(network, ("fd00::1", 80, 0, 0))
    client, error = await dial(network, ("fd00:0::1", 80, 0, 0))
    assert error == 0
    accepted, peer = listener.accept()
    assert peer == client.getsockname()
    assert client.getpeername() == ("fd00::1", 80, 0, 0)
    assert accepted.getsockname() == ("fd00::1", 80, 0, 0)


async def test_a_wildcard_ipv6_listener_hears_ipv4_callers_unless_told_not_to(network):
    listener = network.socket(socket.AF_INET6)
    listener.bind(("::", 8080, 0, 0))
    listener.listen(1)
    client, error = await dial(network.as_seen_from("10.0.0.9"), ("127.0.0.1", 8080))
    assert error == 0
    _, peer = listener.accept()
    assert peer == ("::ffff:10.0.0.9", _port_of(client), 0, 0)
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    assert (await dial(network, ("127.0.0.1", 8080)))[1] == errno.ECONNREFUSED


def _port_of(sock: Sock) -> int:
    name = sock.getsockname()
    assert isinstance(name, tuple)
    return int(name[1])


async def test_a_hang_ends_with_a_timeout_after_linux_has_lost_patience(
    network, link, autojump_clock
):
    listening(network)
    link.fault = Fault.HANGS
    _, error = await dial(network)
    assert error == errno.ETIMEDOUT
    assert trio.current_time() == pytest.approx(131)


async def test_a_partition_holds_and_delivers_both_ways_once_healed(network, link, autojump_clock):
    client, accepted = await pair(network)
    link.fault = Fault.PARTITIONED
    client.send(b"up")
    accepted.send(b"down")
    accepted.close()
    await trio.sleep(10)
    assert attempt(accepted.recv, 9) == "EBADF"
    assert attempt(client.recv, 9) == "EAGAIN"
    link.fault = Fault.NONE
    await network.wait_readable(client)
    healed_after = trio.current_time() - 10
    assert 0 < healed_after < 10, "the next retransmission, at most as long again"
    assert client.recv(9) == b"down"


async def test_silence_lets_connects_through_and_nothing_else(network, link, autojump_clock):
    listener = listening(network)
    link.fault = Fault.SILENT
    client, error = await dial(network)
    assert error == 0
    await network.wait_readable(listener)
    accepted, _ = listener.accept()
    client.send(b"hello?")
    with trio.move_on_after(60) as scope:
        await network.wait_readable(accepted)
    assert scope.cancelled_caught
    with trio.move_on_after(2000) as scope:
        await network.wait_readable(client)
    assert trio.current_time() == pytest.approx(924.6)
    assert attempt(client.recv, 9) == "ETIMEDOUT"


async def test_a_reset_link_cuts_at_the_first_bytes(network, link):
    client, accepted = await pair(network)
    link.fault = Fault.RESETS
    assert client.send(b"GET") == 3
    assert attempt(client.recv, 9) == "ECONNRESET"
    assert attempt(accepted.recv, 9) == "ECONNRESET"


async def test_a_link_can_cut_everything_that_crosses_it_now(network, link):
    client, accepted = await pair(network)
    link.reset_connections()
    assert attempt(client.recv, 9) == "ECONNRESET"
    assert attempt(accepted.recv, 9) == "ECONNRESET"


async def test_a_fault_of_one_port_leaves_the_others(network):
    listening(network)
    listening(network, ("10.0.0.1", 81))
    network.link("127.0.0.1", "10.0.0.1", 80).fault = Fault.REFUSES
    assert (await dial(network))[1] == errno.ECONNREFUSED
    assert (await dial(network, ("10.0.0.1", 81)))[1] == 0


async def test_a_killed_host_refuses_and_its_connections_end_as_the_kernel_ends_them(network):
    listener = listening(network)
    idle, _ = await dial(network)
    asking, _ = await dial(network)
    asking.send(b"unread request")
    for _ in range(2):
        listener.accept()
    network.host("10.0.0.1").kill()
    assert attempt(idle.recv, 9) == b""
    assert attempt(asking.recv, 9) == "ECONNRESET"
    assert (await dial(network))[1] == errno.ECONNREFUSED
    assert network.host("10.0.0.1").open_sockets() == ()


async def test_a_killed_host_wakes_its_own_tasks(network, autojump_clock):
    listener = listening(network)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_expect_closed, network, listener)
        await trio.sleep(1)
        network.host("10.0.0.1").kill()


async def _expect_closed(network: Network, sock: Sock) -> None:
    with pytest.raises(trio.ClosedResourceError):
        await network.wait_readable(sock)


async def test_a_vanished_host_is_silent_and_answers_reset_after_it_has_booted(
    network, autojump_clock
):
    client, _ = await pair(network)
    host = network.host("10.0.0.1")
    host.vanish()
    assert client.send(b"hello?") == 6
    await trio.sleep(30)
    assert attempt(client.recv, 9) == "EAGAIN"
    with trio.move_on_after(5) as scope:
        await dial(network)
    assert scope.cancelled_caught, "a connect to it hangs"
    host.boot()
    await network.wait_readable(client)
    assert trio.current_time() < 70
    assert attempt(client.recv, 9) == "ECONNRESET"
    assert (await dial(network))[1] == errno.ECONNREFUSED


async def test_descriptors_run_out_for_socket_and_for_accept(network):
    host = network.host("10.0.0.1")
    listener = listening(network)
    await dial(network)
    host.descriptor_limit = 1
    assert attempt(listener.accept) == "EMFILE"
    assert attempt(network.as_seen_from(host).socket, socket.AF_INET) == "EMFILE"
    host.descriptor_limit = 2
    accepted, _ = listener.accept()
    accepted.close()
    assert host.open_sockets() == (listener,)


async def test_names_resolve_through_a_table(network, autojump_clock):
    network.name("Web.test.", ["10.0.0.1", "fd00::1"])
    assert await network.resolve("web.TEST", 80) == (
        (socket.AF_INET, ("10.0.0.1", 80)),
        (socket.AF_INET6, ("fd00::1", 80, 0, 0)),
    )
    assert network.host("web.test") is network.host("10.0.0.1")
    assert await network.resolve("::1", 1) == ((socket.AF_INET6, ("::1", 1, 0, 0)),)
    network.name("web.test", [])
    with pytest.raises(socket.gaierror):
        await network.resolve("web.test", 80)
    network.set_resolve_delay(5)
    with pytest.raises(socket.gaierror):
        await network.resolve("nobody.test", 80)
    assert trio.current_time() == 5


async def test_a_host_may_be_named_before_it_has_an_address(network):
    host = network.host("cache.test")
    assert (await network.resolve("cache.test", 1))[0][1] == (host.addresses[0], 1)


async def test_connecting_by_name_is_refused_as_resolving_is_another_call(network):
    with pytest.raises(socket.gaierror):
        network.socket(socket.AF_INET).connect_ex(("web.test", 80))


async def test_short_reads_move_random_parts_but_every_byte(network):
    client, accepted = await pair(network)
    network.set_short_reads(True)
    data, received, sizes = bytes(range(200)), b"", set()
    sent = 0
    while sent < len(data):
        sent += client.send(data[sent:])
    while len(received) < len(data):
        piece = accepted.recv(50)
        sizes.add(len(piece))
        received += piece
    assert received == data
    assert len(sizes) > 1


async def test_reuseport_listeners_share_the_callers(network):
    listeners = []
    for _ in range(2):
        sock = network.socket(socket.AF_INET)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", 8080))
        sock.listen(100)
        listeners.append(sock)
    for _ in range(40):
        await dial(network, ("127.0.0.1", 8080))
    counts = []
    for listener in listeners:
        counts.append(0)
        while attempt(listener.accept) != "EAGAIN":
            counts[-1] += 1
    assert sum(counts) == 40
    assert min(counts) > 5


async def test_unix_sockets_have_paths_and_refuse_stale_ones(network):
    listener = network.socket(socket.AF_UNIX)
    listener.bind("/run/admin.sock")
    listener.listen(0)
    client = network.socket(socket.AF_UNIX)
    assert client.connect_ex("/run/other.sock") == errno.ENOENT
    assert client.connect_ex("/run/admin.sock") == 0
    assert network.socket(socket.AF_UNIX).connect_ex("/run/admin.sock") == errno.EAGAIN
    accepted, _ = listener.accept()
    accepted.send(b"hi")
    assert client.recv(9) == b"hi"
    listener.close()
    assert network.socket(socket.AF_UNIX).connect_ex("/run/admin.sock") == errno.ECONNREFUSED
    assert attempt(network.socket(socket.AF_UNIX).bind, "/run/admin.sock") == "EADDRINUSE"
    network.own_host.unlink("/run/admin.sock")
    network.socket(socket.AF_UNIX).bind("/run/admin.sock")


def test_without_latency_it_needs_no_event_loop(network):
    listener = listening(network)
    client = network.socket(socket.AF_INET)
    client.connect_ex(BACKEND)
    accepted, _ = listener.accept()
    client.send(b"x")
    assert accepted.recv(9) == b"x"


async def test_an_idle_network_has_no_task_and_no_deadline(network, link, autojump_clock):
    link.latency_s = 0.01
    client, accepted = await pair(network)
    client.close()
    await network.wait_readable(accepted)
    accepted.close()
    await trio.sleep(1)
    assert network.own_host.open_sockets() == network.host("10.0.0.1").open_sockets() == ()
    names = [task.name for task in _all_tasks()]
    assert not [name for name in names if "memory network" in name]


def _all_tasks():
    root = trio.lowlevel.current_root_task()
    assert root is not None
    pending = [root]
    while pending:
        task = pending.pop()
        yield task
        pending += [child for nursery in task.child_nurseries for child in nursery.child_tasks]


def test_views_of_one_network_share_their_world(network):
    assert isinstance(network.as_seen_from("10.0.0.1"), HostNetwork)
    assert network.as_seen_from("10.0.0.1").own_host is network.host("10.0.0.1")
