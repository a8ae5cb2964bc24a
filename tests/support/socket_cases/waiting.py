"""Waiting, and what wakes a waiter."""

import socket
from collections.abc import Awaitable, Callable

import pytest
import trio

from balancer.wire.network import Sock
from tests.support.socket_bench import SMALL, Bench, case, close_all, drained, fill, listening, pair


@case
async def a_reader_is_woken_by_data_and_by_the_end(bench: Bench) -> None:
    client, accepted = await pair(bench)
    seen: list[object] = []

    async def reader() -> None:
        while True:
            await bench.network.wait_readable(accepted)
            seen.append(accepted.recv(9))
            if seen[-1] == b"":
                return

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader)
        await bench.settle()
        client.send(b"one")
        await bench.settle()
        client.shutdown(socket.SHUT_WR)
    assert seen == [b"one", b""]
    close_all(client, accepted)


@case
async def a_reader_and_a_writer_wait_on_one_socket_but_not_two_readers(bench: Bench) -> None:
    client, accepted = await pair(bench, small=True)
    while fill(client):
        await bench.settle()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.network.wait_readable, client)
        nursery.start_soon(bench.network.wait_writable, client)
        await bench.settle()
        for wait in (bench.network.wait_readable, bench.network.wait_writable):
            with pytest.raises(trio.BusyResourceError):
                await wait(client)
        accepted.send(b"x")
        nursery.start_soon(drained, bench, accepted, SMALL * 2)
        await bench.settle()
        await trio.sleep(0.05)
        nursery.cancel_scope.cancel()
    close_all(client, accepted)


async def _outcome_of_wait(
    wait: Callable[[Sock], Awaitable[None]], sock: Sock, seen: list[str]
) -> None:
    try:
        await wait(sock)
    except trio.ClosedResourceError:
        seen.append("closed")
    except trio.Cancelled:
        seen.append("cancelled")
        raise
    else:
        seen.append("ready")


@case
async def notify_closing_wakes_the_waiter_of_a_socket_that_is_then_closed(bench: Bench) -> None:
    client, accepted = await pair(bench)
    seen: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_outcome_of_wait, bench.network.wait_readable, client, seen)
        await bench.settle()
        bench.network.notify_closing(client)
        client.close()
    assert seen == ["closed"]
    accepted.close()


@case
async def after_notify_closing_one_may_wait_again(bench: Bench) -> None:
    client, accepted = await pair(bench)
    seen: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_outcome_of_wait, bench.network.wait_readable, client, seen)
        await bench.settle()
        bench.network.notify_closing(client)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_outcome_of_wait, bench.network.wait_readable, client, seen)
        await bench.settle()
        accepted.send(b"x")
    assert seen == ["closed", "ready"]
    assert client.recv(9) == b"x"
    close_all(client, accepted)


@case
async def close_without_notify_closing_leaves_the_waiter_asleep(bench: Bench) -> None:
    client, accepted = await pair(bench)
    seen: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_outcome_of_wait, bench.network.wait_readable, client, seen)
        await bench.settle()
        client.close()
        await trio.sleep(0.05)
        assert seen == []
        nursery.cancel_scope.cancel()
    assert seen == ["cancelled"]
    await bench.settle()
    assert accepted.recv(9) == b""
    accepted.close()


@case
async def waiting_on_a_closed_socket_is_refused(bench: Bench) -> None:
    client, accepted = await pair(bench)
    close_all(client, accepted)
    for call in (bench.network.wait_readable, bench.network.wait_writable):
        with pytest.raises(ValueError, match="negative"):
            await call(client)


@case
async def closing_a_listener_wakes_its_acceptor(bench: Bench) -> None:
    listener, _ = listening(bench)
    seen: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_outcome_of_wait, bench.network.wait_readable, listener, seen)
        await bench.settle()
        bench.network.notify_closing(listener)
        listener.close()
    assert seen == ["closed"]
