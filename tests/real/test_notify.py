"""What a service manager hears from us, and the sockets that it hands over."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trio
import trio.testing

from balancer.admin.control import Done
from balancer.core.ledger import Refused
from balancer.supervisor.activation import given_listeners
from balancer.supervisor.notify import Notifier, environment_for_successor

PID = 4711


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """The name in NOTIFY_SOCKET, and the manager's end."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@{tmp_path}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(name.replace("@", "\0", 1) if name.startswith("@") else name)
        sock.settimeout(2)
        yield name, sock


def test_every_word_is_one_datagram(manager: tuple[str, socket.socket]) -> None:
    name, sock = manager
    notifier = Notifier({"NOTIFY_SOCKET": name}, pid=PID)
    notifier.ready("serving\non 127.0.0.1:8080")
    assert sock.recv(4096) == b"READY=1\nSTATUS=serving on 127.0.0.1:8080"
    notifier.ready("serving", took_over=True)
    assert sock.recv(4096) == b"READY=1\nSTATUS=serving\nMAINPID=4711"
    notifier.stopping("every exchange may end")
    assert sock.recv(4096) == b"STOPPING=1\nSTATUS=every exchange may end"
    notifier.status("2 of 3 backends available")
    assert sock.recv(4096) == b"STATUS=2 of 3 backends available"
    notifier.main_pid(4712)
    assert sock.recv(4096) == b"MAINPID=4712"
    notifier.alive()
    assert sock.recv(4096) == b"WATCHDOG=1"


async def change() -> Done:
    await trio.testing.wait_all_tasks_blocked()
    return Done(changed=True, message="reloaded edge.toml")


async def refuse() -> Done:
    raise Refused("edge.toml is not valid\nline 1")


def heard(sock: socket.socket) -> list[str]:
    """What was said until now, but for the time in it."""
    sock.setblocking(False)
    said = []
    with suppress(BlockingIOError):
        while True:
            said.append(re.sub("MONOTONIC_USEC=[0-9]+\n", "", sock.recv(4096).decode()))
    return said


async def test_a_reload_says_when_it_began_by_the_clock_of_the_manager(
    manager: tuple[str, socket.socket],
) -> None:
    name, sock = manager
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    await Notifier({"NOTIFY_SOCKET": name}, pid=PID).tell_of(change)
    lines = dict(line.split("=", 1) for line in sock.recv(4096).decode().splitlines())
    assert lines["RELOADING"] == "1"
    assert before <= int(lines["MONOTONIC_USEC"]) <= time.clock_gettime_ns(1) // 1000
    assert heard(sock) == ["READY=1\nSTATUS=serving; reloaded edge.toml"]


async def test_however_a_reload_ends_the_manager_hears_that_we_serve(
    manager: tuple[str, socket.socket],
) -> None:
    name, sock = manager
    notifier = Notifier({"NOTIFY_SOCKET": name}, pid=PID)
    with pytest.raises(Refused):
        await notifier.tell_of(refuse)
    with trio.move_on_after(0):
        await notifier.tell_of(change)
    assert heard(sock) == [
        "RELOADING=1\nSTATUS=reloading",
        "READY=1\nSTATUS=serving; reload refused: edge.toml is not valid line 1",
        "RELOADING=1\nSTATUS=reloading",
        "READY=1\nSTATUS=serving; a reload was given up",
    ]


async def test_the_end_of_one_reload_is_not_told_as_that_of_another(
    manager: tuple[str, socket.socket],
) -> None:
    name, sock = manager
    notifier = Notifier({"NOTIFY_SOCKET": name}, pid=PID)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(notifier.tell_of, change)
        nursery.start_soon(notifier.tell_of, change)
    began, ended = "RELOADING=1\nSTATUS=reloading", "READY=1\nSTATUS=serving; reloaded edge.toml"
    assert heard(sock) == [began, began, ended]


@pytest.mark.parametrize("leave", [lambda to: to.stopping("stopping"), lambda to: to.main_pid(1)])
async def test_who_leaves_says_no_more_that_it_serves(
    manager: tuple[str, socket.socket], leave: Callable[[Notifier], None]
) -> None:
    name, sock = manager
    notifier = Notifier({"NOTIFY_SOCKET": name}, pid=PID)

    async def change_and_leave() -> Done:
        leave(notifier)
        return await change()

    await notifier.tell_of(change_and_leave)
    await notifier.tell_of(change)
    assert len(heard(sock)) == 2


@pytest.mark.parametrize("name", ["", "relative", "vsock:2:1234", "/nowhere/at/all"])
def test_without_a_manager_nothing_happens(name: str) -> None:
    Notifier({"NOTIFY_SOCKET": name}, pid=PID).ready("serving")
    Notifier({}, pid=PID).ready("serving")


def test_a_manager_that_does_not_read_holds_us_only_for_a_moment(tmp_path: Path) -> None:
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(name)
        notifier = Notifier({"NOTIFY_SOCKET": name}, pid=PID)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.setblocking(False)
            with suppress(BlockingIOError):
                while True:
                    other.sendto(b"x", name)
        began = time.monotonic()
        notifier.alive()
        assert time.monotonic() - began < 10, "not for as long as the other does not read"


@pytest.mark.parametrize(
    ("env", "wanted"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "4711"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_fed_twice_as_often_as_it_wants(
    env: dict[str, str], wanted: float | None
) -> None:
    assert Notifier(env, pid=PID).watchdog_s == wanted


def test_a_successor_is_watched_too_and_takes_no_socket_twice() -> None:
    env = {"WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "LISTEN_PID": "1", "LISTEN_FDS": "2"}
    left = environment_for_successor({**env, "NOTIFY_SOCKET": "/n", "LISTEN_FDNAMES": "a:b"})
    assert left == {"WATCHDOG_USEC": "1", "NOTIFY_SOCKET": "/n"}


# ---- sockets that are given

GIVEN = """
import os, socket, sys
from balancer.supervisor.activation import given_listeners
from balancer.supervisor.listeners import CannotListen
env = {"LISTEN_FDS": sys.argv[1], "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": sys.argv[2]}
try:
    found = given_listeners(env, pid=os.getpid(), binds=sys.argv[3:])
except CannotListen as refused:
    print("refused:", refused)
else:
    for bind, descriptor in found.items():
        sock = socket.socket(fileno=descriptor)
        print(bind, descriptor, os.get_blocking(descriptor), sock.get_inheritable())
"""


def started_with(
    sockets: list[socket.socket], names: str, *binds: str, count: int | None = None
) -> str:
    """What a process says that is started with these sockets from descriptor 3 on."""
    moves = "".join(f" {3 + at}<&{sock.fileno()}" for at, sock in enumerate(sockets))
    script = f'exec "$@"{moves}'
    told = str(len(sockets) if count is None else count)
    ran = subprocess.run(
        ["bash", "-c", script, "bash", sys.executable, "-c", GIVEN, told, names, *binds],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
        pass_fds=[sock.fileno() for sock in sockets],
    )
    return ran.stdout.strip()


def listening(host: str = "127.0.0.1") -> socket.socket:
    """A listening socket well above the descriptors that are given."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as low:
        low.bind((host, 0))
        low.listen()
        return socket.socket(fileno=os.dup(low.fileno()))


def test_sockets_are_found_by_where_they_listen(tmp_path: Path) -> None:
    with listening() as ipv4, listening("::1") as ipv6, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "http.sock"))
        unix.listen()
        binds = [
            f"unix:{tmp_path}/http.sock",
            f"127.0.0.1:{ipv4.getsockname()[1]}",
            f"[::1]:{ipv6.getsockname()[1]}",
            "127.0.0.1:1",
        ]
        said = started_with([ipv4, ipv6, unix], "a:b:c", *binds).splitlines()
    assert said == [
        f"{binds[1]} 3 False False",
        f"{binds[2]} 4 False False",
        f"{binds[0]} 5 False False",
    ]


def test_a_socket_that_no_listener_wants_is_an_error_with_its_place() -> None:
    with listening() as one, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        said = started_with([one, other], "web", "127.0.0.1:1")
        assert said == (
            f"refused: a socket on 127.0.0.1:{one.getsockname()[1]} (web) was given, and no "
            "listener is bound to that; descriptor 4 that was given is no listening socket "
            "(the configuration listens on 127.0.0.1:1)"
        )


def test_one_place_is_given_once() -> None:
    with listening() as one:
        bind = f"127.0.0.1:{one.getsockname()[1]}"
        with socket.socket(fileno=os.dup(one.fileno())) as again:
            assert "two sockets on" in started_with([one, again], "", bind)


def test_what_was_meant_for_another_process_is_left_alone() -> None:
    env = {"LISTEN_FDS": "1", "LISTEN_PID": "1"}
    assert given_listeners(env, pid=PID, binds=["127.0.0.1:80"]) == {}
    assert given_listeners({}, pid=PID, binds=["127.0.0.1:80"]) == {}


def test_a_descriptor_that_is_not_there_is_told() -> None:
    said = started_with([], "", "127.0.0.1:1", count=1)
    assert "descriptor 3 that was given is no listening socket" in said
