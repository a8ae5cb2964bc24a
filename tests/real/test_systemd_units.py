"""The units beside edge.toml: in step with it, like each other, and understood by systemd."""

import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from balancer.config.durations import parse_duration
from balancer.config.load import load_file
from balancer.supervisor.instance import FIRST_WORKER_S
from balancer.supervisor.signals import SIGNALS
from balancer.supervisor.takeover import GATHER_S

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
    assert settings["RuntimeDirectoryPreserve"] == ["yes"], "or none finds what another left"
    assert settings["TimeoutStartFailureMode"] == ["kill"], "TERM would end workers, too"
    assert settings["StartLimitIntervalSec"] == ["0"], "workers may wait for the next one"


@pytest.mark.parametrize("name", SERVICES)
def test_a_start_is_given_the_time_that_it_takes(name: str) -> None:
    """Until pools are known, and workers of before are found, and new ones come up."""
    [allowed] = unit(name)["TimeoutStartSec"]
    assert parse_duration(f"{allowed}s") > EDGE.start_timeout + GATHER_S + FIRST_WORKER_S + 5


@pytest.mark.parametrize("name", SERVICES)
def test_a_reload_that_is_refused_fails(name: str) -> None:
    asked = f"/usr/local/bin/balancer --admin {EDGE.admin.socket} reload"
    assert unit(name)["ExecReload"] == [asked]


def test_the_services_differ_in_what_systemd_knows_of_a_reload() -> None:
    newer, older = (unit(name) for name in SERVICES)
    differing = {key for key in newer.keys() | older.keys() if newer.get(key) != older.get(key)}
    assert differing == {"Type", "ReloadSignal"}
    assert newer["Type"] == ["notify-reload"]


def test_a_signal_beside_the_command_is_one_that_is_obeyed_and_reloads_nothing() -> None:
    """systemd 262 refuses to start a service that does not handle it."""
    [name] = unit("balancer.service")["ReloadSignal"]
    assert signal.Signals[name] in SIGNALS
    assert name == "SIGUSR1"


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
    newer = ("notify-reload", "ReloadSignal")
    unknown = [line for line in said if not any(word in line for word in newer)]
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
