"""The units beside edge.toml: in step with it, like each other, and understood by systemd."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from balancer.config.durations import parse_duration
from balancer.config.load import load_file

UNITS = Path("configs/systemd")
SERVICES = ("balancer.service", "balancer-older.service")
EDGE = load_file(Path("configs/edge.toml"), {})

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


def unit(name: str) -> dict[str, list[str]]:
    """The settings of a unit, in their order; a key may stand several times."""
    settings: dict[str, list[str]] = {}
    for line in (UNITS / name).read_text(encoding="utf-8").splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            settings.setdefault(key, []).append(value)
    return settings


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_makes_the_places_that_the_config_names(name: str) -> None:
    settings = unit(name)
    assert settings["ExecStart"] == ["/usr/local/bin/balancer run /etc/balancer/edge.toml"]
    assert Path(EDGE.admin.socket).parent == Path("/run", *settings["RuntimeDirectory"])
    assert Path(EDGE.admin.state or "").parent == Path("/var/lib", *settings["StateDirectory"])
    assert Path(EDGE.log.access).parent == Path("/var/log", *settings["LogsDirectory"])


@pytest.mark.parametrize("name", SERVICES)
def test_a_stop_is_given_the_time_that_it_takes(name: str) -> None:
    [allowed] = unit(name)["TimeoutStopSec"]
    assert parse_duration(f"{allowed}s") > EDGE.shutdown_timeout + EDGE.readiness_delay + 5


@pytest.mark.parametrize("name", SERVICES)
def test_the_end_of_the_supervisor_ends_no_worker(name: str) -> None:
    settings = unit(name)
    assert settings["KillMode"] == ["process"]
    assert settings["OOMPolicy"] == ["continue"]
    assert settings["RuntimeDirectoryPreserve"] == ["restart"]


def test_the_services_differ_in_how_a_reload_is_asked_for() -> None:
    newer, older = (unit(name) for name in SERVICES)
    differing = {key for key in newer.keys() | older.keys() if newer.get(key) != older.get(key)}
    assert differing == {"Type", "ExecReload"}
    assert newer["Type"] == ["notify-reload"]
    assert older["ExecReload"] == [f"/usr/local/bin/balancer --admin {EDGE.admin.socket} reload"]


def test_the_socket_unit_opens_what_the_config_listens_on() -> None:
    assert unit("balancer.socket")["ListenStream"] == [each.bind for each in EDGE.listeners]


@needs_systemd
@pytest.mark.parametrize("name", [*SERVICES, "balancer.socket"])
def test_systemd_understands_every_line(name: str, tmp_path: Path) -> None:
    """All but what the installed version is too old for; the program is wherever `true` is."""
    text = (
        (UNITS / name).read_text(encoding="utf-8").replace("/usr/local/bin/balancer", "/bin/true")
    )
    for file in ("balancer.service", name):
        (tmp_path / file).write_text(text if file == name else "[Service]\nExecStart=/bin/true\n")
    ran = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / name)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    said = [line for line in ran.stderr.splitlines() if str(tmp_path) in line or "balancer" in line]
    unknown = [line for line in said if "notify-reload" not in line]
    assert unknown == []


def calls_of(*groups: str) -> set[str]:
    """The system calls of these groups, and of those that they hold."""
    left, calls = [*groups], set[str]()
    while left:
        said = subprocess.run(
            ["systemd-analyze", "syscall-filter", left.pop()],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        words = {line.strip() for line in said.stdout.splitlines()[1:]}
        left += [word for word in words if word.startswith("@")]
        calls |= {word for word in words if re.fullmatch(r"[a-z0-9_]+", word)}
    return calls


@needs_systemd
def test_the_filter_lets_through_what_the_program_calls() -> None:
    allow, deny = unit("balancer.service")["SystemCallFilter"]
    allowed = calls_of(*allow.split()) - calls_of(*deny.removeprefix("~").split())
    needed = {
        *("accept4", "bind", "connect", "listen", "recvmsg", "sendmsg", "setsockopt", "shutdown"),
        *("memfd_create", "mmap", "ftruncate", "splice", "pipe2", "fcntl", "flock", "fsync"),
        *("epoll_ctl", "epoll_pwait", "eventfd2", "pidfd_open", "prlimit64", "execve", "clone3"),
        *("setpgid", "kill", "rename", "unlink", "umask", "sched_getaffinity"),
    }
    assert needed <= allowed, needed - allowed
