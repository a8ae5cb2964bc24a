"""`balancer upgrade`: another program takes over, and nobody notices; or it does not, and nobody notices."""

import contextlib
import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.installation import Installation, nobody_left
from tests.support.kept_clients import clients
from tests.support.real_balancer import (
    Backend,
    Balancer,
    free_port,
    processes_of,
    running,
    wait_for,
)

POOL = """
health = { interval = "200ms", fails = 100 }
passive = { consecutive_failures = 3, base_ejection = "60s", end_on_pass = false, max_ejected_ratio = 0.7 }
"""


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path) -> Iterator[None]:
    with nobody_left(tmp_path):
        yield


@pytest.fixture
def installed(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


@contextlib.contextmanager
def serving(
    installed: Installation, backends: int = 2, *, top: str = ""
) -> Iterator[tuple[Balancer, list[Backend]]]:
    """A balancer that was started by the script of that installation."""
    folder = installed.folder
    command = (str(installed.script),)
    with running(
        folder, backends, pool=POOL, top=top, command=command, cwd=folder, env=installed.env
    ) as pair:
        yield pair


def status(balancer: Balancer) -> dict[str, Any]:
    done = balancer.cli("status", "--json")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def supervisor(balancer: Balancer) -> int:
    """The process that holds the place."""
    named = Path(f"{balancer.socket}.lock").read_text()
    return int(json.loads(named)["pid"])


def rows(seen: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["address"]: row for row in seen["pools"]["web"]["backends"]}


def eject(balancer: Balancer, backend: Backend) -> None:
    backend.kill()

    def ejected() -> bool:
        for _ in range(10):
            with socket.create_connection(("127.0.0.1", balancer.port)) as sock:
                sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                sock.recv(1000)
        return bool(rows(status(balancer))[backend.address]["ejected"])

    wait_for(ejected)


def test_nobody_notices_an_upgrade_and_nothing_is_forgotten(tmp_path: Path) -> None:
    """Kept connections, new ones and a long download, over two upgrades."""
    with running(tmp_path, 3, pool=POOL, top="workers = 2") as (balancer, backends):
        eject(balancer, backends[2])
        assert balancer.cli("drain", "web", backends[0].address).returncode == 0
        before, first = status(balancer), balancer.process
        with clients(balancer.port, size=20_000_000) as them:
            time.sleep(1)
            done = balancer.cli("upgrade")
            assert done.returncode == 0, done.stderr
            second = supervisor(balancer)
            assert f"process {second} (version " in done.stdout
            assert second != first.pid
            after = status(balancer)
            assert first.poll() is None, "it finishes the download"
            assert balancer.readyz() == 200
            assert balancer.cli("upgrade").returncode == 0
            assert supervisor(balancer) not in {first.pid, second}
            them.finish_download()
            # Every kept connection has moved on.
            wait_for(
                lambda: them.failures or (them.told >= 24 and min(them.answers, them.visits) > 100)
            )
        assert them.failures == []
        assert first.wait(20) == 0
        was, now = rows(before), rows(after)
        assert now[backends[0].address]["admin"] == "draining"
        assert now[backends[2].address]["ejected"]
        for address, row in was.items():
            assert now[address]["requests"] >= row["requests"], "counters never go down"
            assert now[address]["failures"] >= row["failures"]
        wait_for(lambda: len(processes_of(tmp_path)) == 3)  # one supervisor, two workers
        wait_for(lambda: status(balancer)["connections"] == 0)
        assert sum(row["in_flight"] for row in rows(status(balancer)).values()) == 0
        sentences = balancer.cli("events").stdout
        assert "listening on" in sentences, "the log of changes goes on"
        assert sentences.count("has taken over from") == 2
        assert balancer.cli("stop").returncode == 0
        wait_for(lambda: not processes_of(tmp_path))
        assert not balancer.socket.exists()


def test_usr2_upgrades_and_the_service_manager_is_told(tmp_path: Path) -> None:
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(tmp_path / "notify"))
    manager.settimeout(20)
    env = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}
    with manager, running(tmp_path, 1, env=env) as (balancer, _):
        assert b"READY=1" in manager.recv(1000)
        first = balancer.process
        first.send_signal(signal.SIGUSR2)
        # In either order: from the one that serves, and from the one that may be gone at once.
        said = sorted((manager.recv(1000).split(b"\n") for _ in range(2)), key=len)
        main = b"MAINPID=%d" % supervisor(balancer)
        assert said[0] == [main]
        assert b"READY=1" in said[1]
        assert main in said[1]
        assert first.wait(20) == 0
        assert supervisor(balancer) != first.pid
        manager.settimeout(0.5)
        with pytest.raises(TimeoutError):
            print(manager.recv(1000))  # no word of stopping


def test_a_stop_is_for_those_too_who_have_handed_over(tmp_path: Path) -> None:
    """They have no limit of their own; the one who serves passes the word on, over two steps."""
    top = 'workers = 1\nshutdown_timeout = "1s"'
    with running(tmp_path, 1, top=top) as (balancer, _), contextlib.ExitStack() as clients:
        for _ in range(2):
            clients.enter_context(balancer.asked_slowly())
            assert balancer.cli("upgrade").returncode == 0
        # Two who wait for their clients, and one who serves.
        wait_for(lambda: len(processes_of(tmp_path)) == 6)
        assert balancer.cli("stop").returncode == 0
        wait_for(lambda: not processes_of(tmp_path))


def test_a_program_whose_files_are_gone_hands_over_and_imports_nothing(
    installed: Installation,
) -> None:
    """Neither the supervisor nor its workers look for a module after they have begun to serve."""
    installed.note_imports()
    with serving(installed, top="workers = 2") as (balancer, backends):
        old, script = set(processes_of(installed.folder)), installed.script.read_text()
        with clients(balancer.port, size=20_000_000) as them:
            installed.forget_what_was_loaded(old)
            shutil.rmtree(installed.folder / "first")
            assert balancer.cli("drain", "web", backends[0].address).returncode == 0
            assert balancer.cli("events").returncode == 0
            running_on = f"/v1/pools/web/backends/{backends[0].address}/running"
            for path in ("/v1/config", "/v1/status", "/metrics", "/readyz", running_on):
                assert b" 200 OK" in balancer.asked(path), path
            assert balancer.cli("reload").returncode == 0
            installed.write_script("#!/bin/sh\nexit 1\n")
            assert balancer.cli("upgrade").returncode == 1
            installed.write_script(script)
            installed.install("second", balancer__supervisor__desk=('version("balancer")', '"9.9"'))
            done = balancer.cli("upgrade")
            assert done.returncode == 0, done.stderr
            assert "(version 9.9) serves now" in done.stdout
            assert status(balancer)["version"] == "9.9"
            them.finish_download()
        assert them.failures == []
        assert balancer.process.wait(20) == 0
        assert installed.imports_of(old) == []


def test_a_program_that_does_not_come_up_changes_nothing(installed: Installation) -> None:
    with serving(installed) as (balancer, _):
        good = balancer.config.read_text()
        script = installed.script.read_text()
        with (
            clients(balancer.port) as them,
            socket.create_server(("127.0.0.1", 0)) as elsewhere,
        ):
            port = elsewhere.getsockname()[1]

            def refused() -> str:
                done = balancer.cli("upgrade")
                assert done.returncode == 1
                assert supervisor(balancer) == balancer.process.pid
                assert len(processes_of(installed.folder)) == workers
                return done.stderr

            workers = len(processes_of(installed.folder))
            balancer.config.write_text(good + '\npolcy = "random"\n')
            assert "polcy" in refused()
            balancer.config.write_text(good + f'\n[[listeners]]\nbind = "127.0.0.1:{port}"\n')
            assert f"cannot listen on 127.0.0.1:{port}" in refused()
            balancer.config.write_text(good.replace("state.json", "other.json"))
            assert "admin.state cannot change in an upgrade" in refused()
            balancer.config.write_text(good)
            installed.write_script("#!/bin/sh\necho no such luck >&2\nexit 3\n")
            assert "it ended with exit code 3: no such luck" in refused()
            installed.script.unlink()
            assert refused()
            installed.write_script(script)
            assert balancer.cli("upgrade").returncode == 0
        assert them.failures == []
        told = [
            line for line in balancer.cli("events").stdout.splitlines() if "not_upgraded" in line
        ]
        assert len(told) == 5
        assert all(line.endswith("; goes on as before") for line in told), told


def test_the_new_program_goes_by_the_file_of_today(tmp_path: Path) -> None:
    """More workers, a listener more, a listener less, and the orders of before."""
    with running(tmp_path, 2, pool=POOL, top="workers = 1") as (balancer, backends):
        one, other = free_port(), free_port()
        plain = balancer.config.read_text()
        more = '\n[[listeners]]\nbind = "127.0.0.1:{}"\n'
        balancer.config.write_text(plain + more.format(one))
        assert balancer.cli("reload").returncode == 0
        assert balancer.cli("drain", "web", backends[0].address).returncode == 0
        three = plain.replace("workers = 1", "workers = 3")
        balancer.config.write_text(three + more.format(other))
        with clients(balancer.port, kept=6) as them:
            assert balancer.cli("upgrade").returncode == 0
            seen = status(balancer)
            assert len(seen["workers"]) == 3
            assert rows(seen)[backends[0].address]["admin"] == "draining"
            with socket.create_connection(("127.0.0.1", other)):
                pass
            wait_for(lambda: balancer.process.poll() == 0)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", one))
            time.sleep(0.5)
        assert them.failures == []


def test_a_stop_during_an_upgrade_leaves_nobody_behind(installed: Installation) -> None:
    """Not even workers of the new program that nobody has told anything yet."""
    with serving(installed, 1) as (balancer, _):
        deaf = "            sock, _ = listener.accept()", "            await trio.sleep_forever()"
        installed.install("second", balancer__supervisor__processes=deaf)
        there = len(processes_of(installed.folder))
        balancer.process.send_signal(signal.SIGUSR2)
        wait_for(lambda: len(processes_of(installed.folder)) > there + 1)
        balancer.process.send_signal(signal.SIGTERM)
        assert balancer.process.wait(20) == 0
        wait_for(lambda: not processes_of(installed.folder))
        assert "this process ends, as it was told to" in balancer.log()
        assert "goes on as before" not in balancer.log()


@pytest.mark.parametrize("how", ["os._exit(7)", 'raise RuntimeError("of all times")'])
def test_a_program_that_fails_while_it_takes_over_changes_nothing(
    installed: Installation, how: str
) -> None:
    """Its workers have taken in clients by then; they serve them to the end."""
    with serving(installed, top="workers = 2") as (balancer, backends):
        there = len(processes_of(installed.folder))
        late = ("        self.settle()", f"        __import__('time').sleep(0.3); {how}")
        installed.install("second", balancer__supervisor__heritage=late)
        with clients(balancer.port) as them:
            time.sleep(0.5)
            done = balancer.cli("upgrade")
            assert done.returncode == 1
            assert "this process goes on as before" in done.stderr
            assert balancer.cli("drain", "web", backends[0].address).returncode == 0
            assert status(balancer)["ready"]
            wait_for(lambda: len(processes_of(installed.folder)) == there)
            assert supervisor(balancer) == balancer.process.pid
            installed.install("third")
            assert balancer.cli("upgrade").returncode == 0
        assert them.failures == []
