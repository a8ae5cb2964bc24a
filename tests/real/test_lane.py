"""The lane on the kernel's edges, where one that is missed would be waited for until a deadline."""

import random
import socket
import threading
from pathlib import Path

import pytest

from tests.support.real_balancer import Balancer, running

READ = 64 * 1024
# Around a whole read of head and body, and around two packets of the loopback.
SIZES = [0, 1, READ // 2 - 300, READ // 2, *range(READ - 400, READ + 5, 37), 2 * READ]
WITHIN_S = 10  # far below any deadline that a missed edge would have to wait for


def answers(balancer: Balancer, targets: list[str], *, burst: bool) -> list[int]:
    """The length of the body of each answer, all on one connection."""
    lengths = []
    with socket.create_connection(("127.0.0.1", balancer.port), WITHIN_S) as sock:
        stream = sock.makefile("rb")
        asked = [f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode() for target in targets]
        at_once = b"".join(asked) if burst else b""
        pusher = threading.Thread(target=sock.sendall, args=(at_once,))
        pusher.start()
        for request in asked:
            if not burst:
                sock.sendall(request)
            length = None
            while (line := stream.readline()) != b"\r\n":
                assert line, "the connection ended"
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            assert length is not None
            lengths.append(len(stream.read(length)))
        pusher.join(WITHIN_S)
        sock.shutdown(socket.SHUT_WR)
        assert stream.read() == b""  # our end is seen, and answered with the edge's
    return lengths


@pytest.mark.parametrize("burst", [False, True])
def test_no_answer_waits_for_an_edge_that_has_been(tmp_path: Path, burst: bool) -> None:
    with running(tmp_path, 2) as (balancer, _):
        sizes = SIZES * 2
        random.Random(1).shuffle(sizes)
        assert answers(balancer, [f"/bytes?n={size}" for size in sizes], burst=burst) == sizes


def test_more_requests_at_once_than_one_read_takes(tmp_path: Path) -> None:
    with running(tmp_path, 1) as (balancer, _):
        targets = [f"/bytes?n={number}&{'x' * 500}" for number in range(400)]
        assert sum(map(len, targets)) > 3 * READ
        assert answers(balancer, targets, burst=True) == list(range(400))


def test_connections_that_come_and_go_take_each_other_s_numbers(tmp_path: Path) -> None:
    with running(tmp_path, 2) as (balancer, _):

        def visitor(seed: int) -> None:
            rng = random.Random(seed)
            for _ in range(25):
                sizes = [rng.randrange(READ) for _ in range(rng.randint(1, 4))]
                got = answers(balancer, [f"/bytes?n={size}" for size in sizes], burst=False)
                seen.append(got == sizes)

        seen: list[bool] = []
        visitors = [threading.Thread(target=visitor, args=(seed,)) for seed in range(8)]
        for thread in visitors:
            thread.start()
        for thread in visitors:
            thread.join(60)
        assert seen == [True] * 200
