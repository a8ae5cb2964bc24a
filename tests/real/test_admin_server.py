"""The admin server on a real unix socket: private, bounded, and hard to disturb."""

import contextlib
import json
import os
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from balancer.admin import connection, server
from balancer.admin.socket_file import SocketPlaceTaken, prepare_place, unix_listener
from balancer.wire.network import KernelNetwork
from tests.support.admin_instance import AdminInstance, admin_instance
from tests.support.fake_control import A
from tests.support.real_balancer import wait_for

GET = b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[AdminInstance]:
    with admin_instance(tmp_path / "run" / "admin.sock") as running:
        yield running


def connect(instance: AdminInstance) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(5)
    sock.connect(str(instance.path))
    return sock


def read_reply(sock: socket.socket) -> tuple[int, bytes]:
    """Status and body of one reply with a Content-Length."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = sock.recv(65536)
        assert part, data
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    while len(body) < length:
        body += sock.recv(65536)
    return int(head.split()[1]), body


def test_socket_and_folder_are_private(instance: AdminInstance) -> None:
    assert stat.S_IMODE(instance.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(instance.path.parent.stat().st_mode) == 0o700


def test_one_connection_carries_many_requests(instance: AdminInstance) -> None:
    with connect(instance) as sock:
        for _ in range(3):
            sock.sendall(GET % b"/livez")
            assert read_reply(sock) == (200, b"ok\n")


def test_pipelined_requests_are_answered_in_order(instance: AdminInstance) -> None:
    with connect(instance) as sock:
        sock.sendall(
            GET % b"/v1/nothing" + b"HEAD /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        data = b""
        while part := sock.recv(65536):
            data += part
    first, second = data.index(b"404 Not Found"), data.index(b"200 OK")
    assert first < second
    assert data.endswith(b"Content-Length: 3\r\nConnection: close\r\n\r\n")


def test_a_client_that_closes_its_half_still_gets_its_answer(instance: AdminInstance) -> None:
    with connect(instance) as sock:
        sock.sendall(GET % b"/livez")
        sock.shutdown(socket.SHUT_WR)
        assert read_reply(sock) == (200, b"ok\n")


def test_an_upload_that_asks_first_is_told_to_go_on(instance: AdminInstance) -> None:
    body = b'{"address": "127.0.0.1:9009"}'
    with connect(instance) as sock:
        sock.sendall(
            b"POST /v1/pools/web/backends HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        )
        assert sock.recv(1024) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(body)
        assert read_reply(sock)[0] == 200


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"GET /livez HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * connection.HEAD_BYTES_MAX + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nA: " + b"a" * 2 * connection.HEAD_BYTES_MAX, 431),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 65537\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\nHost: x\n\n\r\n\r\n", 400),
    ],
)
def test_what_cannot_be_read_is_refused_in_words_and_ends_the_connection(
    instance: AdminInstance, raw: bytes, status: int
) -> None:
    with connect(instance) as sock:
        sock.sendall(raw)
        seen, body = read_reply(sock)
        assert seen == status
        assert json.loads(body)["error"]
        try:
            assert sock.recv(1) == b""
        except ConnectionResetError:
            pass  # what we had sent was not read to its end


def test_a_crash_is_one_500_and_one_log_line(instance: AdminInstance) -> None:
    instance.control.crash = True
    with structlog.testing.capture_logs() as lines, connect(instance) as sock:
        sock.sendall(GET % b"/v1/status")
        status, body = read_reply(sock)
        assert status == 500
        assert b"a bug" not in body
        sock.sendall(GET % b"/livez")
        assert read_reply(sock)[0] == 200
    assert [line["event"] for line in lines] == ["admin.crashed"]


def follow(instance: AdminInstance) -> socket.socket:
    sock = connect(instance)
    sock.sendall(GET % b"/v1/events?follow")
    assert b"Transfer-Encoding: chunked" in sock.recv(65536)
    return sock


def test_who_comes_when_everybody_in_is_being_served_is_refused_in_words(
    instance: AdminInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "CONNECTIONS_MAX", 2)
    held = [follow(instance), follow(instance)]
    try:
        with connect(instance) as one_more:
            status, body = read_reply(one_more)
        assert status == 503
        assert b"2 admin connections are open" in body
    finally:
        for sock in held:
            sock.close()


def test_followers_never_take_every_place(
    instance: AdminInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "FOLLOWERS_MAX", 2)
    held = [follow(instance), follow(instance)]
    try:
        with connect(instance) as one_more:
            one_more.sendall(GET % b"/v1/events?follow")
            status, body = read_reply(one_more)
            assert (status, b"2 others follow events already" in body) == (503, True)
            one_more.sendall(GET % b"/livez")
            assert read_reply(one_more) == (200, b"ok\n")
    finally:
        for sock in held:
            sock.close()


def test_a_slow_request_is_cut_with_a_408(
    instance: AdminInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "REQUEST_S", 0.05)
    with connect(instance) as sock:
        sock.sendall(b"GET /livez HTT")
        assert read_reply(sock)[0] == 408


def test_a_connection_that_rests_too_long_is_closed_without_a_word(
    instance: AdminInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "REST_S", 0.05)
    with connect(instance) as sock:
        sock.sendall(GET % b"/livez")
        assert read_reply(sock)[0] == 200
        assert sock.recv(1) == b""


def test_a_connection_that_never_says_anything_is_closed_sooner_than_one_that_rests(
    instance: AdminInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "REQUEST_S", 0.05)
    with connect(instance) as sock:
        assert sock.recv(1) == b""


def test_a_reader_that_takes_a_byte_now_and_then_is_cut_all_the_same(
    instance: AdminInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "REPLY_S", 0.2)
    instance.control.rows[A]["reason"] = "x" * 2_000_000
    with connect(instance) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.sendall(GET % b"/v1/status")
        taken, end = 0, time.monotonic() + 5
        while (part := sock.recv(1)) and time.monotonic() < end:
            taken += len(part)
            if time.monotonic() < end - 4.5:
                time.sleep(0.01)
        assert part == b""
        assert taken < 2_000_000


def test_a_bug_below_the_answers_costs_one_connection(
    instance: AdminInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken, structlog.testing.capture_logs() as lines:
        broken.setattr(connection, "parse_request_head", lambda raw: 1 / 0)
        with connect(instance) as sock:
            sock.sendall(GET % b"/livez")
            assert sock.recv(1) == b""
    assert [line["event"] for line in lines] == ["admin.crashed"]
    with connect(instance) as sock:
        sock.sendall(GET % b"/livez")
        assert read_reply(sock)[0] == 200


def test_a_follower_that_leaves_is_noticed(
    instance: AdminInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its place is free again, though nothing ever happened that it could have been told."""
    monkeypatch.setattr(connection, "LEAVING_POLL_S", 0.01)
    monkeypatch.setattr(server, "CONNECTIONS_MAX", 1)
    with connect(instance) as sock:
        sock.sendall(GET % b"/v1/events?follow")
        assert b"Transfer-Encoding: chunked" in sock.recv(65536)

    def is_let_in() -> bool:
        with connect(instance) as sock:
            with contextlib.suppress(OSError):  # refused before it could ask
                sock.sendall(GET % b"/livez")
            return read_reply(sock)[0] == 200

    wait_for(is_let_in, 5)


def test_a_follower_that_only_closed_its_half_still_listens(instance: AdminInstance) -> None:
    with connect(instance) as sock:
        sock.sendall(GET % b"/v1/events?follow")
        sock.shutdown(socket.SHUT_WR)
        assert b"chunked" in sock.recv(65536)
        instance.do(lambda: instance.control.log.add("instance.stopping", cause="asked"))
        assert b"instance.stopping" in sock.recv(65536)


def test_the_socket_is_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with admin_instance(path):
        assert path.exists()
    assert not path.exists()


def test_a_socket_that_a_killed_instance_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.exists()
    with admin_instance(path) as instance, connect(instance) as sock:
        sock.sendall(GET % b"/livez")
        assert read_reply(sock)[0] == 200


def test_a_live_foreign_socket_is_neither_deleted_nor_taken(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as foreign:
        foreign.bind(str(path))
        foreign.listen()
        before = path.stat().st_ino
        with pytest.raises(SocketPlaceTaken, match=f"in use by process {os.getpid()}"):
            prepare_place(path)
        assert path.stat().st_ino == before


def test_a_foreign_socket_whose_backlog_is_full_counts_as_live(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("balancer.admin.socket_file.ASK_S", 0.05)
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as foreign, socket.socket(socket.AF_UNIX) as waiting:
        foreign.bind(str(path))
        foreign.listen(0)
        waiting.connect(str(path))
        with pytest.raises(SocketPlaceTaken, match="could not be asked"):
            prepare_place(path)
        assert path.exists()


def test_a_file_that_is_no_socket_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    path.write_text("precious")
    with pytest.raises(SocketPlaceTaken, match="is no socket"):
        prepare_place(path)
    assert path.read_text() == "precious"


def test_a_path_that_is_too_long_for_a_socket_says_so(tmp_path: Path) -> None:
    with pytest.raises(SocketPlaceTaken, match="at most 107 bytes"):
        prepare_place(tmp_path / ("x" * 120))


def test_only_our_own_socket_is_removed(tmp_path: Path) -> None:
    """Whoever replaced the file meanwhile keeps what he made."""
    path = tmp_path / "admin.sock"
    with unix_listener(KernelNetwork(), path):
        path.unlink()
        path.write_text("somebody else's")
    assert path.read_text() == "somebody else's"


def test_the_umask_is_as_before(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        with unix_listener(KernelNetwork(), tmp_path / "admin.sock"):
            assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)
