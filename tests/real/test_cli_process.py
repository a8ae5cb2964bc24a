"""The `balancer` command as a process: signals, pipes, terminals, and how fast it starts."""

import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.admin_instance import AdminInstance, admin_instance
from tests.support.fake_control import A

BALANCER = [sys.executable, "-m", "balancer"]
# Those that no short command needs; each costs a noticeable part of a second.
HEAVY = ("trio", "httpx", "h11", "pydantic", "rich", "structlog", "prometheus_client", "asyncio")


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[AdminInstance]:
    with admin_instance(tmp_path / "admin.sock") as running:
        yield running


def start(*words: str, **options: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
        [*BALANCER, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
    )


def read_until(descriptor: int, wanted: str, limit_s: float = 10) -> str:
    """What arrives until `wanted` is in it."""
    text = ""
    end = time.monotonic() + limit_s
    while wanted not in text:
        assert time.monotonic() < end, text
        if select.select([descriptor], [], [], 0.2)[0]:
            text += os.read(descriptor, 65536).decode()
    return text


def test_help_loads_nothing_heavy() -> None:
    """The time it takes depends on the machine; what it loads does not."""
    code = (
        "import sys; from balancer.cli.main import main; main(['--help'], standalone_mode=False); "
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stderr == b"[]\n"


def test_a_short_command_loads_no_event_loop(instance: AdminInstance) -> None:
    code = (
        "import sys; from balancer.cli.main import main; "
        f"main(['ready', 'web', '{A}', '--admin', {str(instance.path)!r}], standalone_mode=False); "
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stderr == b"[]\n"


def test_a_reader_that_has_enough_is_no_error(instance: AdminInstance) -> None:
    """`balancer events | head -1` says nothing on stderr."""
    log = instance.control.log
    instance.do(lambda: [log.add("backend.weight", cause=f"weight {n}") for n in range(3000)])
    for words in (["events"], ["status"], ["status", "--watch"], ["events", "--follow"]):
        process = start(*words, "--admin", str(instance.path))
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        instance.do(lambda: instance.control.log.add("backend.weight", cause="again"))
        time.sleep(0.1)
        instance.do(lambda: instance.control.log.add("backend.weight", cause="and again"))
        assert process.wait(10) == 0
        assert process.stderr.read() == b""
        process.stderr.close()


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["status", "--watch"], "least-connections"),
        (["status", "--watch", "--json"], '"instance"'),
        (["events", "--follow"], "backend.weight"),
    ],
)
def test_ctrl_c_ends_a_watch_quietly_with_0(
    instance: AdminInstance, words: list[str], wanted: str
) -> None:
    instance.do(lambda: instance.control.log.add("backend.weight", cause="weight 2"))
    process = start(*words, "--admin", str(instance.path))
    assert process.stdout is not None
    read_until(process.stdout.fileno(), wanted)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (0, b"")


def test_a_watch_survives_the_instance(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    process = start("status", "--watch", "--admin", str(path))
    try:
        assert process.stdout is not None
        descriptor = process.stdout.fileno()
        read_until(descriptor, "not reachable, retrying")
        with admin_instance(path):
            read_until(descriptor, "2 of 2 available")
        read_until(descriptor, "not reachable, retrying")
    finally:
        process.kill()
        process.communicate()


def on_a_terminal(*words: str, **environment: str) -> tuple[int, subprocess.Popen[bytes]]:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*BALANCER, *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100", **environment},
    )
    os.close(theirs)
    return ours, process


def test_on_a_terminal_the_table_is_redrawn_in_colour(instance: AdminInstance) -> None:
    ours, process = on_a_terminal("status", "--watch", "--admin", str(instance.path), NO_COLOR="")
    try:
        text = read_until(ours, "up")
        instance.control.rows[A]["health"] = "unhealthy"
        text += read_until(ours, "unhealthy")
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert "\x1b[32m" in text  # green
    assert re.search(r"\x1b\[\d*A", text)  # up again, instead of one table below the other


@pytest.mark.parametrize("words", [["status"], ["events"]])
def test_no_color_is_honoured(instance: AdminInstance, words: list[str]) -> None:
    instance.do(lambda: instance.control.log.add("pool.panic", cause="none left", pool="web"))
    for environment, coloured in (({"NO_COLOR": ""}, True), ({"NO_COLOR": "1"}, False)):
        ours, process = on_a_terminal(*words, "--admin", str(instance.path), **environment)
        text = read_until(ours, "probes passed" if words == ["status"] else "ignored")
        process.wait(10)
        os.close(ours)
        assert bool(re.search(r"\x1b\[[0-9;]*3[1-7]m", text)) is coloured


def test_stop_waits_for_the_process_itself(tmp_path: Path) -> None:
    """The socket may go first; whoever starts the next instance needs the process gone."""
    path = tmp_path / "admin.sock"
    code = f"""
import threading, time
from pathlib import Path
from tests.support.admin_instance import AdminInstance
instance = AdminInstance(Path({str(path)!r}))
instance.start()
print("up", flush=True)
while instance.control.stopped is None:
    time.sleep(0.01)
time.sleep(0.2)
instance.end()
time.sleep(0.5)
print("ends", time.time(), flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    done = subprocess.run(
        [*BALANCER, "stop", "--admin", str(path)], capture_output=True, check=False
    )
    returned = time.time()
    ended, _ = process.communicate(timeout=10)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == b"stopped"
    assert returned > float(ended.split()[1])


def test_ctrl_c_while_stopping_ends_only_the_waiting_and_says_so(instance: AdminInstance) -> None:
    process = start("stop", "--admin", str(instance.path))
    assert process.stdout is not None
    read_until(process.stdout.fileno(), "stopping")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 4
    assert errors == b"balancer: no longer waiting; the instance goes on stopping\n"


def refused_start(folder: Path, **values: str) -> str:
    """What `balancer run` says of a file with these values of `admin` and `log`, and exits 1."""
    places = {"socket": folder / "admin.sock", "state": folder / "state.json", **values}
    config = folder / "edge.toml"
    config.write_text(f"""
[[listeners]]
bind = "127.0.0.1:0"
[admin]
socket = "{places["socket"]}"
state = "{places["state"]}"
[log]
access = "{places.get("access", "off")}"
[pools.web]
backends = []
""")
    done = subprocess.run(
        [*BALANCER, "run", str(config)], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


def test_a_state_file_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    said = refused_start(tmp_path, state=str(tmp_path / "state"))
    assert said == f"balancer: cannot read the state file {tmp_path / 'state'}: Is a directory\n"


@pytest.mark.parametrize(
    ("setting", "place", "why"),
    [
        ("state", "file/state.json", "cannot make the folder of admin.state, {0}/file: {0}/file is a file"),
        ("state", "file/in/state.json", "cannot make the folder of admin.state, {0}/file/in: {0}/file is a file"),
        ("socket", "file/a.sock", "cannot make the folder of admin.socket, {0}/file: {0}/file is a file"),
        ("socket", "nowhere/a.sock", "cannot make the folder of admin.socket, {0}/nowhere: {0}/nowhere is no folder"),
        ("access", "missing/access.log", "cannot open log.access, {0}/missing/access.log: there is no folder {0}/missing"),
        ("access", "file/access.log", "cannot open log.access, {0}/file/access.log: {0}/file is a file"),
        ("access", "folder", "cannot open log.access, {0}/folder: Is a directory"),
    ],
)  # fmt: skip
def test_a_place_that_cannot_be_used_is_told_by_its_setting(
    tmp_path: Path, setting: str, place: str, why: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    said = refused_start(tmp_path, **{setting: str(tmp_path / place)})
    assert said == f"balancer: {why.format(tmp_path)}\n"


def test_a_folder_in_which_nothing_can_be_made_is_told_by_its_setting(tmp_path: Path) -> None:
    said = refused_start(tmp_path, state="/proc/nothere/state.json")
    assert said.startswith("balancer: cannot make the folder of admin.state, /proc/nothere: ")


def test_a_lock_that_cannot_be_made_is_told_by_its_setting(tmp_path: Path) -> None:
    (tmp_path / "state.json.lock").mkdir()
    said = refused_start(tmp_path, state=str(tmp_path / "state.json"))
    lock = tmp_path / "state.json.lock"
    assert said == f"balancer: cannot open the lock of admin.state, {lock}: Is a directory\n"


# ---- what a command cannot read or write


@pytest.mark.parametrize("words", [["status"], ["status", "--json"], ["ready", "web", A]])
def test_output_that_cannot_be_written_is_told_and_is_no_refusal(
    instance: AdminInstance, words: list[str]
) -> None:
    instance.control.rows[A]["admin"] = "draining"
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*BALANCER, "--admin", str(instance.path), *words],
            stdout=full, stderr=subprocess.PIPE, check=False, timeout=30,
        )  # fmt: skip
    assert done.returncode == 4
    assert done.stderr == (
        b"balancer: cannot write the output: No space left on device; what was to be done is done\n"
    )
    assert instance.control.rows[A]["admin"] == ("ready" if words[0] == "ready" else "draining")


@pytest.mark.parametrize("word", ["--version", "--help"])
def test_help_that_cannot_be_written_is_told(word: str) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*BALANCER, word], stdout=full, stderr=subprocess.PIPE, check=False, timeout=30
        )
    assert done.returncode == 4
    assert done.stderr.startswith(b"balancer: cannot write the output")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("words", ["status", "status --json", "ready web 127.0.0.1:9001"])
def test_a_closed_stream_is_no_mistake(instance: AdminInstance, words: str, closed: str) -> None:
    command = f"{sys.executable} -m balancer --admin {instance.path} {words} {closed}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, check=False, timeout=30)
    assert (done.returncode, done.stderr) == (0, b"")


def test_nothing_is_opened_where_a_standard_stream_was_closed(tmp_path: Path) -> None:
    """Or a socket or a state file would get what is meant for a terminal or a log."""
    code = (
        "import os; from balancer.cli.lazy_group import open_standard_streams as opened; opened();"
        "print(os.open('/', os.O_RDONLY), [os.readlink(f'/proc/self/fd/{n}') for n in (0, 1, 2)],"
        f" file=open({str(tmp_path / 'said')!r}, 'w'))"
    )
    command = [sys.executable, "-c", code]
    subprocess.run(["sh", "-c", '"$@" <&- >&- 2>&-', "sh", *command], check=True, timeout=30)
    first, _, rest = (tmp_path / "said").read_text().partition(" ")
    assert int(first) > 2
    assert rest == "['/dev/null', '/dev/null', '/dev/null']\n"


@pytest.mark.parametrize(
    "words",
    [
        ["status", b"\xff"],
        ["drain", "web", b"\xff"],
        ["drain", b"\xff", A],
        ["add", b"\xff", A],
        ["remove", "web", b"\xff\xfe"],
    ],
)
def test_bytes_that_are_no_text_name_nothing(
    instance: AdminInstance, words: list[str | bytes]
) -> None:
    done = subprocess.run(
        [*BALANCER, "--admin", str(instance.path), *words],
        capture_output=True, check=False, timeout=30,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"balancer: ")
    assert b"'\\udcff" in done.stderr


def test_ctrl_c_during_an_order_leaves_open_what_was_done(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        process = start("ready", "web", A, "--admin", str(path))
        with process, silent.accept()[0]:
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=20)
    assert process.returncode == 4
    assert said == b"balancer: no longer waiting; ask 'balancer status' what was done\n"
