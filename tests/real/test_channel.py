"""The line between supervisor and worker over real sockets: order, descriptors, and its end."""

import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio
import trio.testing

from balancer.supervisor.introductions import introduced
from balancer.worker import channel as channel_module
from balancer.worker.channel import DESCRIPTORS_MAX, ChannelClosed, KernelChannel
from balancer.worker.messages import Accept, Applied, Hello, Memory, SocketKey, Sockets

OURS = os.getpid()


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def pair() -> tuple[KernelChannel, KernelChannel]:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    return KernelChannel(one), KernelChannel(other)


async def read_all(channel: KernelChannel) -> None:
    """Read to the end, and close what comes. ChannelClosed."""
    while True:
        _, handles = await channel.receive()
        for handle in handles:
            assert isinstance(handle, int)
            os.close(handle)


@contextmanager
def channels() -> Iterator[tuple[KernelChannel, KernelChannel]]:
    """Both ends; nothing may be left open behind them."""
    before = descriptors()
    one, other = pair()
    try:
        yield one, other
    finally:
        one.close()
        other.close()
    # What a test before this one has left to the garbage collector may close meanwhile.
    assert descriptors() <= before


@contextmanager
def no_more_descriptors() -> Iterator[None]:
    """No number is below the limit, so none that somebody closes meanwhile can be had."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_messages_arrive_in_order_with_their_descriptors() -> None:
    with channels() as (one, other), open(os.devnull) as null:
        keys = tuple(SocketKey("127.0.0.1:80", slot) for slot in range(DESCRIPTORS_MAX))
        one.send(Accept(1, (0,)))
        one.send(Sockets(keys), [null] * DESCRIPTORS_MAX)
        one.send(Memory(), [null])
        assert await other.receive() == (Accept(1, (0,)), [])
        word, handles = await other.receive()
        assert word == Sockets(keys)
        assert len(set(handles)) == DESCRIPTORS_MAX
        more, [last] = await other.receive()
        assert more == Memory()
        for handle in (*handles, last):
            assert isinstance(handle, int)
            assert not os.get_inheritable(handle)
            os.close(handle)


async def test_what_the_socket_does_not_take_at_once_is_sent_by_run() -> None:
    with channels() as (one, other):
        count = 20_000
        for number in range(count):
            one.send(Accept(number, tuple(range(30))))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.run)
            for number in range(count):
                word, _ = await other.receive()
                assert word == Accept(number, tuple(range(30)))
            nursery.cancel_scope.cancel()


async def test_who_does_not_read_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, "WAITING_BYTES_MAX", 100_000)
    with channels() as (one, other), open(os.devnull) as null:
        for number in range(50_000):
            one.send(Accept(number, tuple(range(50))), [null] if number % 100 == 0 else [])
        with pytest.raises(ChannelClosed, match="closed here"):
            await one.receive()
        with pytest.raises(ChannelClosed, match="closed it"):
            await read_all(other)


async def test_unread_descriptors_are_closed_with_the_channel() -> None:
    with channels() as (one, other), open(os.devnull) as null:
        for _ in range(3):
            one.send(Sockets(()), [null] * 5)
        one.send(Applied(1))
        _, handles = await other.receive()
        for handle in handles:
            assert isinstance(handle, int)
            os.close(handle)


@pytest.mark.parametrize("side", ["sending", "receiving"])
async def test_without_a_free_descriptor_the_channel_ends_and_nothing_else(side: str) -> None:
    with channels() as (one, other), open(os.devnull) as null:
        if side == "receiving":
            one.send(Memory(), [null])
        with no_more_descriptors():
            if side == "sending":
                one.send(Memory(), [null])
            with pytest.raises(ChannelClosed):
                await other.receive()
        one.send(Memory(), [null])  # says nothing, and harms nobody


async def test_a_receiver_notices_that_its_own_end_is_closed() -> None:
    with channels() as (one, _):
        async with trio.open_nursery() as nursery:

            async def receive() -> None:
                with pytest.raises(ChannelClosed):
                    await one.receive()

            nursery.start_soon(receive)
            nursery.start_soon(one.run)
            await trio.sleep(0.01)
            one.close()


async def test_the_kernel_says_who_is_there_and_whether_he_still_is() -> None:
    with channels() as (one, other):
        assert one.peer == OURS
        seen = [one.is_open]
        other.send(Applied(1))
        seen.append(one.is_open)
        other.close()
        seen.append(one.is_open)
        one.close()
        seen.append(one.is_open)
        assert seen == [True, True, False, False], "also where something is left to read"


# ---- introductions


async def test_a_worker_is_who_it_says() -> None:
    with channels() as (one, other), open(os.devnull) as null:
        one.send(Memory(), [null])
        one.send(Sockets((SocketKey("a", 0), SocketKey("a", 1))), [null, null])
        one.send(Sockets((SocketKey("a", 0),)), [null])
        one.send(Hello(0, OURS, 1))
        introduction = await introduced(other)
        assert introduction.hello == Hello(0, OURS, 1)
        assert introduction.sockets.keys() == {SocketKey("a", 0), SocketKey("a", 1)}
        introduction.close()


@pytest.mark.parametrize(
    "words",
    [
        [(Hello(0, OURS + 1, None), 0)],
        [(Hello(0, OURS, None), 1)],
        [(Memory(), 0)],
        [(Memory(), 2)],
        [(Memory(), 1), (Memory(), 1)],
        [(Sockets((SocketKey("a", 0),)), 0)],
        [(Memory(), 1), (Sockets(()), 2)],
        [(Memory(), 1), (Applied(1), 1)],
    ],
)
async def test_whoever_says_something_else_is_hung_up_on_and_leaves_nothing(
    words: list[tuple[Hello | Memory | Sockets | Applied, int]],
) -> None:
    with channels() as (one, other), open(os.devnull) as null:
        for word, count in words:
            one.send(word, [null] * count)
        with pytest.raises(ChannelClosed, match="did not say who it is"):
            await introduced(other)


async def test_who_says_nothing_is_not_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    with channels() as (one, other), open(os.devnull) as null:
        one.send(Memory(), [null])
        with pytest.raises(ChannelClosed, match="in time"):
            await introduced(other)
