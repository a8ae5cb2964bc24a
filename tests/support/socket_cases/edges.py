"""Edges: what a set of sockets tells of those that have become readable."""

import socket

import trio

from balancer.wire.network import ENDED, Edges
from balancer.wire.streams import cut
from tests.support.socket_bench import Bench, attempt, case, close_all, pair


async def told(bench: Bench, edges: Edges) -> dict[int, bool]:
    """What has been told by now: numbers, and whether the end is in it."""
    await bench.settle()
    return {number: bool(mask & ENDED) for number, mask in edges.poll(9)}


@case
async def what_arrives_is_told(bench: Bench) -> None:
    client, accepted = await pair(bench)
    edges = bench.network.edges()
    edges.add(accepted)
    assert await told(bench, edges) == {}
    client.send(b"x")
    assert await told(bench, edges) == {accepted.fileno(): False}
    assert accepted.recv(9) == b"x"
    assert await told(bench, edges) == {}
    close_all(client, accepted)


@case
async def what_was_there_before_is_told_as_well(bench: Bench) -> None:
    client, accepted = await pair(bench)
    client.send(b"x")
    await bench.settle()
    edges = bench.network.edges()
    edges.add(accepted)
    assert await told(bench, edges) == {accepted.fileno(): False}
    close_all(client, accepted)


@case
async def what_nobody_reads_is_told_when_more_arrives(bench: Bench) -> None:
    client, accepted = await pair(bench)
    edges = bench.network.edges()
    edges.add(accepted)
    for _ in range(3):
        client.send(b"x")
        assert await told(bench, edges) == {accepted.fileno(): False}
        assert await told(bench, edges) == {}
    close_all(client, accepted)


@case
async def an_end_is_told_and_stands_in_the_mask_beside_data(bench: Bench) -> None:
    client, accepted = await pair(bench)
    edges = bench.network.edges()
    edges.add(accepted)
    client.send(b"x")
    client.shutdown(socket.SHUT_WR)
    assert await told(bench, edges) == {accepted.fileno(): True}
    assert (accepted.recv(9), accepted.recv(9)) == (b"x", b"")
    close_all(client, accepted)


@case
async def a_reset_is_told(bench: Bench) -> None:
    client, accepted = await pair(bench)
    edges = bench.network.edges()
    edges.add(accepted)
    cut(client)
    client.close()
    assert await told(bench, edges) == {accepted.fileno(): True}
    assert attempt(accepted.recv, 9) == "ECONNRESET"
    close_all(accepted)


@case
async def a_closed_socket_is_told_of_no_more(bench: Bench) -> None:
    client, accepted = await pair(bench)
    edges = bench.network.edges()
    edges.add(accepted)
    client.send(b"x")
    await bench.settle()
    accepted.close()
    assert await told(bench, edges) == {}
    close_all(client)


@case
async def no_more_are_told_than_were_asked_for_and_none_is_lost(bench: Bench) -> None:
    pairs = [await pair(bench) for _ in range(5)]
    edges = bench.network.edges()
    for client, accepted in pairs:
        edges.add(accepted)
        client.send(b"x")
    await bench.settle()
    seen = [number for _ in range(3) for number, _ in edges.poll(2)]
    assert sorted(seen) == sorted(accepted.fileno() for _, accepted in pairs)
    assert edges.poll(2) == []
    for both in pairs:
        close_all(*both)


@case
async def a_wait_ends_with_an_edge_and_with_a_wake(bench: Bench) -> None:
    client, accepted = await pair(bench)
    edges = bench.network.edges()
    edges.add(accepted)
    ended: list[str] = []

    async def waiting(what: str) -> None:
        await edges.wait()
        ended.append(what)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(waiting, "woken")
        await bench.settle()
        assert not ended
        edges.wake()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(waiting, "edge")
        await bench.settle()
        client.send(b"x")
    with trio.fail_after(1):
        await edges.wait()  # it has not been polled yet
    assert ended == ["woken", "edge"]
    close_all(client, accepted)


@case
async def a_cancelled_wait_leaves_the_next_one_whole(bench: Bench) -> None:
    client, accepted = await pair(bench)
    edges = bench.network.edges()
    edges.add(accepted)
    with trio.move_on_after(0.01) as scope:
        await edges.wait()
    assert scope.cancelled_caught
    edges.wake()  # nobody waits
    client.send(b"x")
    with trio.fail_after(1):
        await edges.wait()
    assert await told(bench, edges) == {accepted.fileno(): False}
    close_all(client, accepted)
