"""How a conversation ends: half-close, close, reset."""

import errno
import socket

import trio

from tests.support.socket_bench import LINGER_RESET, Bench, attempt, case, close_all, fill, pair


@case
async def a_half_close_ends_one_way_only(bench: Bench) -> None:
    client, accepted = await pair(bench)
    client.send(b"question")
    client.shutdown(socket.SHUT_WR)
    await bench.settle()
    assert [accepted.recv(99), accepted.recv(99)] == [b"question", b""]
    assert not bench.network.has_left(accepted)
    assert not bench.network.has_left(client)
    assert attempt(client.send, b"x") == "EPIPE"
    assert attempt(client.recv, 9) == "EAGAIN"
    accepted.send(b"answer")
    await bench.settle()
    assert client.recv(99) == b"answer"
    accepted.shutdown(socket.SHUT_WR)
    await bench.settle()
    assert client.recv(99) == b""
    assert bench.network.has_left(client)
    assert bench.network.has_left(accepted)
    assert attempt(client.getpeername) == "ENOTCONN"
    assert attempt(client.shutdown, socket.SHUT_WR) == "ENOTCONN"
    close_all(client, accepted)


@case
async def the_accepted_side_can_half_close_too(bench: Bench) -> None:
    client, accepted = await pair(bench)
    accepted.shutdown(socket.SHUT_WR)
    await bench.settle()
    assert client.recv(9) == b""
    assert client.send(b"still") == 5
    await bench.settle()
    assert accepted.recv(9) == b"still"
    assert not bench.network.has_left(client)
    close_all(client, accepted)


@case
async def a_full_close_looks_like_a_half_close_until_something_is_sent(bench: Bench) -> None:
    client, accepted = await pair(bench)
    accepted.close()
    await bench.settle()
    assert client.recv(9) == b""
    assert not bench.network.has_left(client)
    assert client.send(b"into the void") == 13
    await bench.settle()
    assert bench.network.has_left(client)
    assert attempt(client.send, b"x") == "EPIPE"
    assert attempt(client.send, b"x") == "EPIPE"
    assert attempt(client.recv, 9) == b""
    client.close()


@case
async def closing_with_unread_data_resets(bench: Bench) -> None:
    client, accepted = await pair(bench)
    client.send(b"unread")
    await bench.settle()
    accepted.close()
    await bench.settle()
    assert bench.network.has_left(client)
    assert attempt(client.send, b"x") == "ECONNRESET"
    assert attempt(client.send, b"x") == "EPIPE"
    assert attempt(client.recv, 9) == b""
    client.close()


@case
async def what_came_before_a_reset_can_be_read_and_then_the_reset(bench: Bench) -> None:
    client, accepted = await pair(bench)
    accepted.send(b"partial answer")
    client.send(b"unread")
    await bench.settle()
    accepted.close()
    await bench.settle()
    assert client.recv(7, socket.MSG_PEEK) == b"partial"
    assert client.recv(99) == b"partial answer"
    assert [attempt(client.recv, 9) for _ in range(2)] == ["ECONNRESET", b""]
    assert attempt(client.send, b"x") == "EPIPE"
    client.close()


@case
async def a_reset_before_any_data_is_seen_by_the_first_call(bench: Bench) -> None:
    client, accepted = await pair(bench)
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
    accepted.close()
    await bench.network.wait_readable(client)
    assert bench.network.has_left(client)
    assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNRESET
    assert attempt(client.recv, 9) == b""
    assert attempt(client.send, b"x") == "EPIPE"
    client.close()


@case
async def a_reset_wakes_a_sender_whose_buffer_is_full(bench: Bench) -> None:
    client, accepted = await pair(bench, small=True)
    while fill(client):
        await bench.settle()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.network.wait_writable, client)
        await bench.settle()
        accepted.close()
    assert attempt(client.send, b"x") == "ECONNRESET"
    assert attempt(client.send, b"x") == "EPIPE"
    client.close()


@case
async def a_reset_after_a_half_close_of_the_peer_is_a_broken_pipe(bench: Bench) -> None:
    client, accepted = await pair(bench)
    accepted.shutdown(socket.SHUT_WR)
    await bench.settle()
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
    accepted.close()
    await bench.settle()
    assert client.recv(9) == b""
    assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.EPIPE
    client.close()


@case
async def shutting_down_and_closing_with_unread_data_resets_too(bench: Bench) -> None:
    client, accepted = await pair(bench)
    client.send(b"unread")
    await bench.settle()
    accepted.shutdown(socket.SHUT_WR)
    await bench.settle()
    assert client.recv(9) == b""
    accepted.close()
    await bench.settle()
    assert attempt(client.send, b"x") == "EPIPE"
    client.close()


@case
async def data_for_a_socket_that_was_shut_both_ways_is_answered_by_reset(bench: Bench) -> None:
    client, accepted = await pair(bench)
    accepted.shutdown(socket.SHUT_RDWR)
    await bench.settle()
    assert client.send(b"x") == 1
    await bench.settle()
    assert attempt(client.send, b"x") == "EPIPE"
    assert [attempt(accepted.recv, 1) for _ in range(2)] == ["ECONNRESET", b""]
    close_all(client, accepted)


@case
async def a_socket_shut_for_reading_reads_what_still_comes(bench: Bench) -> None:
    client, accepted = await pair(bench)
    accepted.shutdown(socket.SHUT_RD)
    assert accepted.recv(9) == b""
    client.send(b"late")
    await bench.settle()
    assert [accepted.recv(9), accepted.recv(9)] == [b"late", b""]
    assert not bench.network.has_left(accepted)
    close_all(client, accepted)
