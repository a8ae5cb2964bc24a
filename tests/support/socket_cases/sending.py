"""Bytes, peeking and full buffers."""

import socket

from tests.support.socket_bench import (
    SMALL,
    Bench,
    attempt,
    case,
    close_all,
    drained,
    fill,
    is_ready,
    pair,
)


@case
async def bytes_arrive_in_order_and_peeking_leaves_them(bench: Bench) -> None:
    client, accepted = await pair(bench)
    assert attempt(accepted.recv, 9) == "EAGAIN"
    assert attempt(accepted.recv, 9, socket.MSG_PEEK) == "EAGAIN"
    client.send(b"abc")
    client.send(memoryview(b"def"))
    await bench.settle()
    assert accepted.recv(4, socket.MSG_PEEK) == b"abcd"
    assert accepted.recv(99, socket.MSG_PEEK) == b"abcdef"
    assert accepted.recv(2) == b"ab"
    assert accepted.recv(99) == b"cdef"
    assert attempt(accepted.recv, 9) == "EAGAIN"
    close_all(client, accepted)


@case
async def peeking_at_the_end_sees_the_end_again_and_again(bench: Bench) -> None:
    client, accepted = await pair(bench)
    client.send(b"z")
    client.close()
    await bench.settle()
    assert accepted.recv(9, socket.MSG_PEEK) == b"z"
    assert accepted.recv(9) == b"z"
    assert [accepted.recv(9, socket.MSG_PEEK) for _ in range(2)] == [b"", b""]
    assert accepted.recv(9) == b""
    accepted.close()


@case
async def a_full_buffer_would_block_until_the_peer_reads(bench: Bench) -> None:
    client, accepted = await pair(bench, small=True)
    sent = 0
    while more := fill(client):
        sent += more
        await bench.settle()
    assert sent >= SMALL
    assert not await is_ready(bench.network.wait_writable, client)
    await drained(bench, accepted, sent)
    assert await is_ready(bench.network.wait_writable, client, 1)
    assert client.send(b"y") == 1
    await bench.network.wait_readable(accepted)
    assert accepted.recv(9) == b"y"
    close_all(client, accepted)


@case
async def the_kernel_tells_what_the_peer_has_not_taken(bench: Bench) -> None:
    unsent = bench.network.unsent
    client, accepted = await pair(bench, small=True)
    client.send(b"abc")
    await bench.settle()
    assert unsent(client) == 0, "it is with the peer, whether that reads it or not"
    sent = 3
    while more := fill(client):
        sent += more
        await bench.settle()
    waiting = unsent(client)
    assert 0 < waiting < sent
    await drained(bench, accepted, sent)
    await bench.settle()
    assert unsent(client) == 0
    close_all(client, accepted)


@case
async def what_was_sent_before_close_arrives_though_the_buffers_were_full(bench: Bench) -> None:
    client, accepted = await pair(bench, small=True)
    sent = 0
    while more := fill(client):
        sent += more
        await bench.settle()
    client.close()
    await drained(bench, accepted, sent)
    await bench.network.wait_readable(accepted)
    assert accepted.recv(1) == b""
    accepted.close()
