"""A process that took over dies while the one before it still finishes what it runs."""

import os
import signal
import socket
import struct
from pathlib import Path

from tests.real.test_upgrade import supervisor, wait_for
from tests.support.installation import nobody_left
from tests.support.real_balancer import running


def test_who_has_handed_over_keeps_nobody_from_starting(tmp_path: Path) -> None:
    """It is not found at the admin socket any more, where it would never answer."""
    with nobody_left(tmp_path), running(tmp_path, 1, top="workers = 1") as (balancer, _):
        first = balancer.process
        with socket.create_connection(("127.0.0.1", balancer.port)) as client:
            client.sendall(b"GET /slow?s=60 HTTP/1.1\r\nHost: a\r\n\r\n")
            wait_for(lambda: sum(row["in_flight"] for row in balancer.status().values()) == 1)
            assert balancer.cli("upgrade").returncode == 0
            os.kill(supervisor(balancer), signal.SIGKILL)
            wait_for(lambda: balancer.cli("status").returncode == 3, 5)
            balancer.start()
            assert supervisor(balancer) == balancer.process.pid
            assert balancer.cli("status").returncode == 0
            assert first.poll() is None, "it finishes what it runs"
            # A client that only goes may still be waiting for its answer: reset the connection.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert first.wait(20) == 0
