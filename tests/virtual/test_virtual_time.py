"""The virtual-time runner: time jumps, a seed decides the order, and nothing of it stays behind."""

import gc
import random
import socket
import time

import pytest
import trio
from trio._core import _run

from balancer.rehearsal.memory_network import MemoryNetwork
from balancer.rehearsal.virtual_time import run_virtual
from tests.support.virtual_backend import Line, VirtualBackend, answers, in_turn, resets_after

CALLERS = 30


async def busy_scene(seed: int) -> bytes:
    """Many tasks that meet on one network, with faults and jitter; what happened, as bytes."""
    network = MemoryNetwork(seed=seed)
    link = network.link("127.0.0.1", "10.0.0.1")
    link.jitter_s = 0.01
    script = in_turn(*[answers(200, b"x" * 2000), resets_after(50)] * 20, answers(204))
    backend = VirtualBackend(network, "10.0.0.1:80", script)
    seen: list[str] = []

    async def caller(name: int) -> None:
        for turn in range(3):
            await trio.sleep(random.choice([0, 0.005, 0.01]))  # seeded by the run
            line = Line(network, network.socket(socket.AF_INET), name)
            line.sock.connect_ex(("10.0.0.1", 80))
            await network.wait_writable(line.sock)
            try:
                await line.send(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
                while await line.more():
                    pass
                end = "end"
            except OSError as error:
                end = type(error).__name__
            seen.append(f"{trio.current_time():.9f} {name} {turn} {len(line.buffer)} {end}")
            line.close()

    async with trio.open_nursery() as nursery:
        await nursery.start(backend.run)
        nursery.start_soon(backend.kill_at, 0.02, 0.03)
        async with trio.open_nursery() as callers:
            for name in range(CALLERS):
                callers.start_soon(caller, name)
        nursery.cancel_scope.cancel()
    seen += [f"{request.at} {request.connection}" for request in backend.requests]
    return "\n".join(seen).encode()


def test_one_seed_gives_one_run_byte_for_byte_and_another_seed_another():
    first = run_virtual(busy_scene, 1, seed=1)
    assert len(first.splitlines()) > 3 * CALLERS
    assert b"ConnectionResetError" in first
    assert run_virtual(busy_scene, 1, seed=1) == first
    assert run_virtual(busy_scene, 1, seed=2) != first, "the order of tasks is seeded"
    assert run_virtual(busy_scene, 2, seed=1) != first, "so is the network"


async def order_of_tasks() -> list[int]:
    order: list[int] = []

    async def note(number: int) -> None:
        order.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(note, number)
    return order


def test_the_order_of_tasks_comes_from_the_seed_alone():
    first = run_virtual(order_of_tasks, seed=1)
    _run._r.random()
    assert run_virtual(order_of_tasks, seed=1) == first
    assert run_virtual(order_of_tasks, seed=2) != first
    assert sorted(first) == list(range(20))


def test_garbage_of_one_run_does_not_change_the_next():
    first = run_virtual(busy_scene, 5, seed=5)
    _ = [[object()] for _ in range(10_000)]
    gc.collect()
    assert run_virtual(busy_scene, 5, seed=5) == first


def test_time_begins_at_zero_and_costs_nothing():
    async def main() -> float:
        assert trio.current_time() == 0.0
        await trio.sleep(86_400)
        return trio.current_time()

    began = time.perf_counter()
    assert run_virtual(main, seed=1) == 86_400
    assert time.perf_counter() - began < 5


def test_what_the_runner_changes_is_put_back_even_after_a_crash():
    async def main() -> None:
        random.seed(99)
        raise LookupError("the scene fell over")

    before = _run._r.getstate(), random.getstate(), _run._ALLOW_DETERMINISTIC_SCHEDULING
    with pytest.raises(LookupError, match="fell over"):
        run_virtual(main, seed=1)
    after = _run._r.getstate(), random.getstate(), _run._ALLOW_DETERMINISTIC_SCHEDULING
    assert after == before
    assert gc.isenabled()


def test_minutes_with_thousands_of_exchanges_are_cheap():
    """Five minutes, 5,000 exchanges over a link with latency: far under the machine's patience."""

    async def main() -> int:
        network = MemoryNetwork(seed=1, latency_s=0.001)
        backend = VirtualBackend(network, "10.0.0.1:80", answers(200, b"ok"))
        async with trio.open_nursery() as nursery:
            await nursery.start(backend.run)
            async with trio.open_nursery() as callers:
                for _ in range(10):
                    callers.start_soon(_calls, network, 500)
            nursery.cancel_scope.cancel()
        assert trio.current_time() >= 300
        return len(backend.requests)

    began = time.process_time()
    assert run_virtual(main, seed=1) == 5000
    assert time.process_time() - began < 10


async def _calls(network: MemoryNetwork, count: int) -> None:
    line = Line(network, network.socket(socket.AF_INET), 0)
    line.sock.connect_ex(("10.0.0.1", 80))
    await network.wait_writable(line.sock)
    for _ in range(count):
        line.buffer = b""
        await line.send(b"GET / HTTP/1.1\r\n\r\n")
        while not line.buffer.endswith(b"ok"):
            await line.more()
        await trio.sleep(0.6)
    line.close()
