"""Opening connections: whose fault it is when there is none, and nothing left open."""

import errno
import socket

import pytest
import trio
from trio.testing import MockClock

from balancer.core.outcome import Failure
from balancer.rehearsal.links import Fault
from balancer.rehearsal.memory_network import MemoryNetwork
from balancer.wire.dial import DialFailed, Target, dial, failure_of
from balancer.wire.network import Sock
from balancer.wire.waiting import Interrupted, Timekeeper, Waiter

FIRST: Target = (socket.AF_INET, ("10.0.0.1", 80))
SECOND: Target = (socket.AF_INET, ("10.0.0.2", 80))
THIRD: Target = (socket.AF_INET6, ("fd00::3", 80, 0, 0))


class Bench:
    def __init__(self) -> None:
        self.network = MemoryNetwork(seed=1)
        self.network.own_host.add_address("fd00::1")
        self.keeper = Timekeeper(self.network)
        self.waiter = Waiter(self.keeper)

    def listen(self, target: Target, backlog: int = 9) -> Sock:
        family, address = target
        name = address if isinstance(address, str) else address[0]
        at = "127.0.0.1" if isinstance(address, str) else name
        listener = self.network.as_seen_from(at).socket(family)
        listener.bind(address)
        listener.listen(backlog)
        return listener

    def fault(self, target: Target, fault: Fault) -> None:
        self.network.link("127.0.0.1", str(target[1][0])).fault = fault

    async def dial(self, *targets: Target, timeout_s: float = 2) -> Sock:
        deadline = trio.current_time() + timeout_s
        return await dial(self.network, self.waiter, targets, deadline)

    async def failure(self, *targets: Target) -> tuple[Failure, float]:
        """Why there was no connection, and when that was known; nothing may be left open."""
        with pytest.raises(DialFailed) as caught:
            await self.dial(*targets)
        assert self.network.own_host.open_sockets() == ()
        return caught.value.failure, trio.current_time()


@pytest.fixture
async def bench(nursery: trio.Nursery) -> Bench:
    bench = Bench()
    nursery.start_soon(bench.keeper.run)
    return bench


@pytest.mark.parametrize("target", [FIRST, THIRD, (socket.AF_UNIX, "/run/a.sock")], ids=repr)
async def test_a_connection(bench: Bench, target: Target, autojump_clock: MockClock) -> None:
    listener = bench.listen(target)
    sock = await bench.dial(target)
    sock.send(b"hello")
    await trio.sleep(1)
    assert listener.accept()[0].recv(9) == b"hello"


async def test_a_connection_takes_as_long_as_the_way(
    bench: Bench, autojump_clock: MockClock
) -> None:
    bench.listen(FIRST)
    bench.network.link("127.0.0.1", "10.0.0.1").latency_s = 0.5
    await bench.dial(FIRST)
    assert trio.current_time() == pytest.approx(1.0)


async def test_refused(bench: Bench, autojump_clock: MockClock) -> None:
    bench.network.host("10.0.0.1")
    assert await bench.failure(FIRST) == (Failure.CONNECT_REFUSED, 0)


async def test_a_unix_socket_without_a_listener_is_refused(
    bench: Bench, autojump_clock: MockClock
) -> None:
    assert (await bench.failure((socket.AF_UNIX, "/none")))[0] is Failure.CONNECT_REFUSED
    bench.listen((socket.AF_UNIX, "/run/a.sock")).close()
    assert (await bench.failure((socket.AF_UNIX, "/run/a.sock")))[0] is Failure.CONNECT_REFUSED


async def test_no_answer_ends_at_the_deadline(bench: Bench, autojump_clock: MockClock) -> None:
    bench.listen(FIRST)
    bench.fault(FIRST, Fault.HANGS)
    assert await bench.failure(FIRST) == (Failure.CONNECT_TIMEOUT, 2)


async def test_the_second_address_is_tried_when_the_first_refuses(
    bench: Bench, autojump_clock: MockClock
) -> None:
    bench.network.host("10.0.0.1")
    bench.listen(SECOND)
    sock = await bench.dial(FIRST, SECOND)
    assert sock.getpeername() == ("10.0.0.2", 80)
    [left] = bench.network.own_host.open_sockets()
    assert left.number == sock.fileno()


async def test_all_addresses_together_have_one_deadline(
    bench: Bench, autojump_clock: MockClock
) -> None:
    bench.listen(FIRST)
    bench.listen(SECOND)
    bench.fault(FIRST, Fault.HANGS)
    bench.fault(SECOND, Fault.HANGS)
    assert await bench.failure(FIRST, SECOND) == (Failure.CONNECT_TIMEOUT, 2)


async def test_an_address_that_hangs_leaves_time_for_the_next(
    bench: Bench, autojump_clock: MockClock
) -> None:
    """A name whose first address swallows packets must not make its backend unreachable."""
    bench.listen(FIRST)
    bench.listen(SECOND)
    bench.fault(FIRST, Fault.HANGS)
    sock = await bench.dial(FIRST, SECOND)
    assert sock.getpeername() == ("10.0.0.2", 80)
    assert trio.current_time() == pytest.approx(1)


async def test_the_last_failure_is_the_one_that_is_told(
    bench: Bench, autojump_clock: MockClock
) -> None:
    bench.network.host("10.0.0.2")
    alien: Target = (99, ("10.0.0.1", 80))
    assert (await bench.failure(alien, SECOND))[0] is Failure.CONNECT_REFUSED
    assert (await bench.failure(SECOND, alien))[0] is Failure.CONNECT_UNREACHABLE


async def test_no_address_is_a_name_that_is_not_known(
    bench: Bench, autojump_clock: MockClock
) -> None:
    assert await bench.failure() == (Failure.NAME_UNKNOWN, 0)


async def test_descriptors_that_ran_out_are_our_own_fault(
    bench: Bench, autojump_clock: MockClock
) -> None:
    bench.listen(FIRST)
    bench.network.own_host.descriptor_limit = 0
    assert await bench.failure(FIRST) == (Failure.OWN_LIMIT, 0)


async def test_an_interrupted_dial_leaves_nothing_open(
    bench: Bench, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    bench.listen(FIRST)
    bench.fault(FIRST, Fault.HANGS)

    async def interrupt() -> None:
        await trio.sleep(1)
        bench.waiter.interrupt(Interrupted())

    nursery.start_soon(interrupt)
    with pytest.raises(Interrupted):
        await bench.dial(FIRST)
    assert trio.current_time() == 1
    assert bench.network.own_host.open_sockets() == ()


async def test_a_cancelled_dial_leaves_nothing_open(
    bench: Bench, autojump_clock: MockClock
) -> None:
    bench.listen(FIRST)
    bench.fault(FIRST, Fault.HANGS)
    with trio.move_on_after(1):
        await bench.dial(FIRST)
    assert bench.network.own_host.open_sockets() == ()


@pytest.mark.parametrize(
    ("exc", "failure"),
    [
        (OSError(errno.EMFILE, ""), Failure.OWN_LIMIT),
        (OSError(errno.ENFILE, ""), Failure.OWN_LIMIT),
        (OSError(errno.ENOBUFS, ""), Failure.OWN_LIMIT),
        (OSError(errno.ENOMEM, ""), Failure.OWN_LIMIT),
        (OSError(errno.EADDRNOTAVAIL, ""), Failure.OWN_LIMIT),
        (OSError(errno.EAGAIN, ""), Failure.OWN_LIMIT),
        (OSError(errno.ECONNREFUSED, ""), Failure.CONNECT_REFUSED),
        (OSError(errno.ECONNRESET, ""), Failure.CONNECT_REFUSED),
        (OSError(errno.ENOENT, ""), Failure.CONNECT_REFUSED),
        (OSError(errno.ETIMEDOUT, ""), Failure.CONNECT_TIMEOUT),
        (OSError(errno.EHOSTUNREACH, ""), Failure.CONNECT_UNREACHABLE),
        (OSError(errno.ENETUNREACH, ""), Failure.CONNECT_UNREACHABLE),
        (OSError(errno.EACCES, ""), Failure.CONNECT_UNREACHABLE),
        (OSError(), Failure.CONNECT_UNREACHABLE),
        (socket.gaierror(socket.EAI_NONAME, ""), Failure.NAME_UNKNOWN),
        (socket.gaierror(socket.EAI_AGAIN, ""), Failure.NAME_UNKNOWN),
    ],
    ids=repr,
)
def test_every_error_has_its_word(exc: OSError, failure: Failure) -> None:
    assert failure_of(exc) is failure
