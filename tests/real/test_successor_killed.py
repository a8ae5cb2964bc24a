"""A process that took over dies while the one before it still finishes what it runs."""

import os
import signal
import socket
from contextlib import suppress
from pathlib import Path

from tests.real.test_upgrade import supervisor
from tests.support.installation import nobody_left
from tests.support.real_balancer import processes_of, running, wait_for


def test_who_has_handed_over_keeps_nobody_from_starting(tmp_path: Path) -> None:
    """It is not found at the admin socket any more, where it would never answer."""
    with nobody_left(tmp_path), running(tmp_path, 1, top="workers = 1") as (balancer, _):
        first = balancer.process
        with balancer.asked_slowly():
            assert balancer.cli("upgrade").returncode == 0
            os.kill(supervisor(balancer), signal.SIGKILL)
            wait_for(lambda: balancer.cli("status").returncode == 3)
            balancer.start()
            assert supervisor(balancer) == balancer.process.pid
            assert balancer.cli("status").returncode == 0
            assert first.poll() is None, "it finishes what it runs"
        assert first.wait(20) == 0


def test_a_stop_reaches_those_whose_successor_was_killed(tmp_path: Path) -> None:
    """The third one knows of them by the rows of the board that they write."""
    top = 'workers = 1\nshutdown_timeout = "1s"'
    with nobody_left(tmp_path), running(tmp_path, 1, top=top) as (balancer, _):
        first = balancer.process
        with balancer.asked_slowly():
            assert balancer.cli("upgrade").returncode == 0
            os.kill(supervisor(balancer), signal.SIGKILL)
            wait_for(lambda: balancer.cli("status").returncode == 3)
            balancer.start()
            assert first.poll() is None, "it finishes what it runs"
            assert balancer.cli("stop").returncode == 0
            assert first.wait(20) == 0
            wait_for(lambda: not processes_of(tmp_path))


def writes_to_old_log(pid: int) -> bool:
    with suppress(OSError):  # closed meanwhile, or ended
        links = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
        return any(link.endswith("/access.log.1") for link in links)
    return False


def test_logs_are_reopened_by_those_too_who_have_handed_over(tmp_path: Path) -> None:
    with nobody_left(tmp_path), running(tmp_path, 1, top="workers = 1") as (balancer, _):
        with balancer.asked_slowly():
            assert balancer.cli("upgrade").returncode == 0
            balancer.access.rename(balancer.folder / "access.log.1")
            os.kill(supervisor(balancer), signal.SIGUSR1)
            wait_for(lambda: not any(map(writes_to_old_log, processes_of(tmp_path))))
        assert balancer.process.wait(20) == 0
        [line] = balancer.access_lines()
        assert line["path"] == "/slow?s=60"


def test_a_reload_is_carried_out_by_whoever_serves(tmp_path: Path) -> None:
    """HUP may reach the other one: a service manager may not know yet of who has taken over."""
    with (
        nobody_left(tmp_path),
        running(tmp_path, 1, top="workers = 1") as (balancer, _),
        balancer.asked_slowly(),
    ):
        assert balancer.cli("upgrade").returncode == 0
        text = balancer.config.read_text()
        balancer.config.write_text(f'shutdown_timeout = "9s"\n{text}')
        balancer.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "reloaded edge.toml: shutdown_timeout" in balancer.log())
        passed_on = f"passed on to process {supervisor(balancer)}, which serves now"
        wait_for(lambda: passed_on in balancer.log())


def test_the_manager_is_told_by_the_parent_of_who_died(tmp_path: Path) -> None:
    """The manager itself is told of the end of its own children alone."""
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(tmp_path / "notify"))
    manager.settimeout(20)
    env = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}
    with nobody_left(tmp_path), manager, running(tmp_path, 1, top="workers = 1", env=env) as pair:
        balancer, _ = pair
        with balancer.asked_slowly():
            assert balancer.cli("upgrade").returncode == 0
            os.kill(supervisor(balancer), signal.SIGKILL)
            while not manager.recv(1000).startswith(b"WATCHDOG=trigger"):
                pass
