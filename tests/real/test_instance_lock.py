"""One instance per place: a second one is told who is there."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from balancer.supervisor.instance_lock import AlreadyRunning, Holder, hold

HOLD = """
import sys, time
from pathlib import Path
from balancer.supervisor.instance_lock import Holder, hold
state, socket = (Path(name) if name else None for name in sys.argv[1:])
with hold(state=state, socket=socket, holder=Holder.now(config="edge.toml", wall=0.0)):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder_process(state: Path | None, socket: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(state or ""), str(socket)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


def try_to_hold(state: Path | None, socket: Path) -> None:
    with hold(state=state, socket=socket, holder=Holder.now(config="mine.toml", wall=0.0)):
        pass


@pytest.mark.parametrize(
    ("shared", "another"),
    [
        ("state", "a state file of its own: admin.state in its file, or --state FILE"),
        ("socket", "an admin socket of its own: --admin SOCKET, or admin.socket in its file"),
    ],
)
def test_a_second_instance_is_refused_and_told_who_holds_the_place_and_how_to_get_another(
    tmp_path: Path, shared: str, another: str
) -> None:
    """Either place in common is enough to collide."""
    first = {"state": tmp_path / "a.json", "socket": tmp_path / "a.sock"}
    second = {"state": tmp_path / "b.json", "socket": tmp_path / "b.sock", shared: first[shared]}
    process = holder_process(first["state"], first["socket"])
    try:
        with pytest.raises(AlreadyRunning) as refusal:
            try_to_hold(second["state"], second["socket"])
    finally:
        end(process)
    assert str(first[shared]) in str(refusal.value)
    assert another in str(refusal.value)
    assert f"process {process.pid}, running edge.toml since 1970-01-01T00:00:00Z" in str(
        refusal.value
    )


def test_a_killed_holder_leaves_the_place_free(tmp_path: Path) -> None:
    process = holder_process(tmp_path / "state.json", tmp_path / "admin.sock")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    try_to_hold(tmp_path / "state.json", tmp_path / "admin.sock")


def test_a_place_can_be_held_again_after_it_was_left(tmp_path: Path) -> None:
    for _ in range(2):
        try_to_hold(tmp_path / "state.json", tmp_path / "new" / "admin.sock")
    assert (tmp_path / "state.json.lock").read_bytes() == b""


def test_another_way_to_the_same_folder_is_the_same_place(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    process = holder_process(None, tmp_path / "real" / "admin.sock")
    try:
        with pytest.raises(AlreadyRunning):
            try_to_hold(None, tmp_path / "link" / "admin.sock")
    finally:
        end(process)


def test_a_refused_instance_leaves_the_other_place_as_it_was(tmp_path: Path) -> None:
    process = holder_process(None, tmp_path / "z.sock")
    try:
        with pytest.raises(AlreadyRunning):
            try_to_hold(tmp_path / "a.json", tmp_path / "z.sock")
        try_to_hold(tmp_path / "a.json", tmp_path / "free.sock")
    finally:
        end(process)


def test_a_lock_file_that_says_nothing_still_refuses(tmp_path: Path) -> None:
    process = holder_process(None, tmp_path / "admin.sock")
    try:
        os.truncate(tmp_path / "admin.sock.lock", 0)
        with pytest.raises(AlreadyRunning, match=re.escape("just starting or stopping")):
            try_to_hold(None, tmp_path / "admin.sock")
    finally:
        end(process)
