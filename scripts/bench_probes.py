"""CPU of one probe, against a plain backend in another process.

    .venv/bin/python scripts/bench_probes.py [PROBES]

Prints microseconds of our own CPU for each probe (the best of several rounds, as other work on the
machine only adds) and the same as a multiple of a bare connection, since machines differ.
"""

import multiprocessing
import socket
import sys
import time
from collections.abc import Awaitable, Callable

import trio

from healthcheck.probing.http import HttpCheck, http_probe
from healthcheck.probing.place import Place
from healthcheck.probing.tcp import tcp_probe

ROUNDS = 5
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


def backend(listening: socket.socket) -> None:
    while True:
        connection, _ = listening.accept()
        with connection:
            if connection.recv(65536):
                connection.sendall(ANSWER)


async def cpu_us(act: Callable[[], Awaitable[object]], times: int) -> float:
    """The least CPU that one `act` took on average over a round."""
    rounds = []
    for _ in range(ROUNDS):
        before = time.process_time()
        for _ in range(times):
            await act()
        rounds.append((time.process_time() - before) / times * 1e6)
    return min(rounds)


async def bench(port: int, times: int) -> None:
    place = Place(host="127.0.0.1", port=port)

    async def bare_connection() -> None:
        with trio.socket.socket() as sock:
            await sock.connect(("127.0.0.1", port))

    probes: dict[str, Callable[[], Awaitable[object]]] = {
        "bare connection": bare_connection,
        "tcp probe": tcp_probe(place),
        "http probe": http_probe(HttpCheck(), place),
        "http probe, body searched": http_probe(HttpCheck(body_contains="ok"), place),
    }
    base = 0.0
    for name, act in probes.items():
        await cpu_us(act, 20)  # warm
        cost = await cpu_us(act, times)
        base = base or cost
        print(f"{name:<28}{cost:8.0f} us {cost / base:8.1f} x")


def main() -> None:
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    listening = socket.create_server(("127.0.0.1", 0), backlog=128)
    process = multiprocessing.get_context("fork").Process(
        target=backend, args=(listening,), daemon=True
    )
    process.start()
    try:
        trio.run(bench, listening.getsockname()[1], times)
    finally:
        process.kill()
        process.join()


if __name__ == "__main__":
    main()
