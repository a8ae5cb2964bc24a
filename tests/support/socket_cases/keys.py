"""Coded connections whose peer changes keys: what it may, and what it is broken off for."""

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from balancer.wire.tls_engine import LEFT_BYTES_MAX, QUIET_RECORDS_MAX
from balancer.wire.tls_socket import RECORDS_AT_ONCE, Coded, TlsBroken, WantsTurn
from tests.support.changed_keys import ChangedKeys, ToldKeys
from tests.support.socket_bench import Bench, attempt, case, close_all
from tests.support.socket_cases.coded import coded_pair

BODY = os.urandom(256 * 1024)


@asynccontextmanager
async def changing(
    bench: Bench, *, small: bool = False
) -> AsyncIterator[tuple[Coded, Coded, ChangedKeys]]:
    """A client, a server, and what the client's side codes by itself; it is sent below."""
    told = ToldKeys()
    theirs, ours = await coded_pair(bench, small=small, client=told.context)
    yield theirs, ours, ChangedKeys(theirs, told)
    close_all(theirs, ours)
    told.close()


def filled(ours: Coded) -> memoryview:
    """Send until nothing is taken any more; what is left of it."""
    view = memoryview(BODY)
    while view:
        try:
            view = view[ours.send(view) :]
        except BlockingIOError:
            break
    assert view
    return view


@case
async def keys_may_be_changed_by_who_takes_nothing_for_now(bench: Bench) -> None:
    async with changing(bench, small=True) as (theirs, ours, keys):
        view, received = filled(ours), b""
        for word in (b"one", b"two"):
            theirs.below.send(b"".join(keys.change() for _ in range(QUIET_RECORDS_MAX // 2 - 1)))
            theirs.below.send(keys.data(word))
            await bench.settle()
            assert ours.recv(99) == word
        assert attempt(ours.recv, 99) == "EAGAIN"
        while len(received) < len(BODY):
            with suppress(BlockingIOError):
                received += theirs.recv(1 << 20)
            with suppress(BlockingIOError):
                view = view[ours.send(view) :] if view else view
            await bench.settle()
        assert received == BODY, "what was said of keys came in its place"


@case
async def who_changes_keys_on_and_on_and_takes_nothing_is_broken_off(bench: Bench) -> None:
    async with changing(bench, small=True) as (theirs, ours, keys):
        view, each, changes = filled(ours), QUIET_RECORDS_MAX // 2, 0
        told: object = b""
        while changes < LEFT_BYTES_MAX and told != "EPROTO":
            theirs.below.send(b"".join(keys.change() for _ in range(each)) + keys.data(b"x"))
            await bench.settle()
            told = attempt(ours.recv, 99)
            changes += each
        assert each < changes < LEFT_BYTES_MAX / 20
        with pytest.raises(TlsBroken, match="keys changed again and again, and nothing taken"):
            ours.recv(99)
        assert attempt(ours.send, view) == "EAGAIN"


@case
async def changed_keys_count_among_the_records_of_a_turn(bench: Bench) -> None:
    async with changing(bench) as (theirs, ours, keys):
        quiet, turns, received = QUIET_RECORDS_MAX - 1, 0, b""
        count = 4 * RECORDS_AT_ONCE // (quiet + 1)
        for _ in range(count):
            said = b"".join(keys.change(ask=False) for _ in range(quiet))
            theirs.below.send(said + keys.data(b"x"))
        await bench.settle()
        while len(received) < count:
            try:
                received += ours.recv(1 << 16)
            except WantsTurn:
                turns += 1
        assert turns in (3, 4)


@case
async def no_end_is_held_up_by_changed_keys(bench: Bench) -> None:
    """What has come is read before we say that we end, but no more of it than in one read."""
    async with changing(bench) as (theirs, ours, keys):
        quiet = QUIET_RECORDS_MAX - 1
        for _ in range(4 * RECORDS_AT_ONCE // (quiet + 1)):
            said = b"".join(keys.change(ask=False) for _ in range(quiet))
            theirs.below.send(said + keys.data(b"x"))
        await bench.settle()
        before = ours.engine.records
        ours.shutdown(socket.SHUT_WR)
        assert 0 < ours.engine.records - before <= RECORDS_AT_ONCE + QUIET_RECORDS_MAX
        await bench.settle()
        assert theirs.recv(99) == b""


@case
async def nothing_can_be_said_amid_a_message_about_keys(bench: Bench) -> None:
    """Nobody sends half of one, but who wants to know what becomes of us."""
    async with changing(bench) as (theirs, ours, keys):
        theirs.below.send(keys.half_a_change())
        await bench.settle()
        assert attempt(ours.recv, 99) == "EAGAIN"
        with pytest.raises(TlsBroken, match="a message about keys is not whole"):
            ours.send(b"answer")
        assert attempt(ours.recv, 99) == "EPROTO"
