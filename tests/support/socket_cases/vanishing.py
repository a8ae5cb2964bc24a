"""A peer that has vanished, and one that comes back."""

import socket

import trio

from tests.support.socket_bench import (
    LINGER_RESET,
    Bench,
    attempt,
    case,
    close_all,
    fill,
    is_ready,
    pair,
)


@case
async def a_vanished_peer_is_silence(bench: Bench) -> None:
    client, accepted = await pair(bench)
    bench.hide(client, accepted)
    accepted.send(b"never seen")
    assert client.send(b"into the dark") == 13
    await bench.settle()
    assert attempt(client.recv, 9) == "EAGAIN"
    assert not bench.network.has_left(client)
    assert not await is_ready(bench.network.wait_readable, client)
    for sock in (client, accepted):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
    close_all(client, accepted)


@case
async def what_a_partition_held_back_arrives_after_it_heals(bench: Bench) -> None:
    client, accepted = await pair(bench)
    bench.hide(client, accepted)
    client.send(b"held ")
    client.send(b"back")
    client.shutdown(socket.SHUT_WR)
    await trio.sleep(0.1)
    assert attempt(accepted.recv, 99) == "EAGAIN"
    bench.show(client, accepted)
    received = b""
    while not received.endswith(b"back"):
        await bench.network.wait_readable(accepted)
        received += accepted.recv(99)
    await bench.network.wait_readable(accepted)
    assert (received, accepted.recv(9)) == (b"held back", b"")
    close_all(client, accepted)


@case
async def unanswered_data_ends_with_a_timeout_when_the_user_set_one(bench: Bench) -> None:
    client, accepted = await pair(bench)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 300)
    bench.hide(client, accepted)
    client.send(b"anybody there?")
    await bench.network.wait_readable(client)
    assert bench.network.has_left(client)
    assert attempt(client.recv, 9) == "ETIMEDOUT"
    assert attempt(client.recv, 9) == b""
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
    close_all(client, accepted)


@case
async def a_full_buffer_towards_a_vanished_peer_stays_full(bench: Bench) -> None:
    client, accepted = await pair(bench, small=True)
    bench.hide(client, accepted)
    assert fill(client) > 0
    await bench.settle()
    assert attempt(client.send, b"x") == "EAGAIN"
    assert not await is_ready(bench.network.wait_writable, client, 0.1)
    for sock in (client, accepted):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
    close_all(client, accepted)
