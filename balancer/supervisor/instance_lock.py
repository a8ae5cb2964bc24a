"""One instance per place: locks beside the state file and the admin socket, with the holder's name.

The kernel drops a lock with the process that holds it, however that process ends, so nothing is
ever stale; the name inside the file is only for the message. It moves and deletes nothing else.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from balancer.supervisor.places import cannot_open, make_folder_of

_NAME_BYTES_MAX = 4096
SOCKET = "admin.socket"
STATE = "admin.state"
ANOTHER_SOCKET = f"an admin socket of its own: --admin SOCKET, or {SOCKET} in its file"
ANOTHER_STATE = f"a state file of its own: {STATE} in its file, or --state FILE without one"


class AlreadyRunning(Exception):
    """Another instance holds the place; str() names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who holds a place, as the lock file tells."""

    pid: int
    config: str
    since: str

    @staticmethod
    def now(*, config: str, wall: float) -> "Holder":
        since = datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return Holder(pid=os.getpid(), config=config, since=since)


@dataclass(frozen=True, slots=True)
class _Place:
    """What is held, the setting that names it, and how a second instance gets another."""

    path: Path
    setting: str
    another: str


@contextmanager
def hold(*, state: Path | None, socket: Path, holder: Holder) -> Iterator[None]:
    """Hold both places while the block runs.

    Raises AlreadyRunning, or NoPlace when a lock file cannot be made. The lock files stay behind,
    empty: to delete one would let two instances lock two files of one name.
    """
    make_folder_of(SOCKET, socket)
    places = {_resolved(socket): _Place(_resolved(socket), SOCKET, ANOTHER_SOCKET)}
    if state is not None:
        make_folder_of(STATE, state)
        places[_resolved(state)] = _Place(_resolved(state), STATE, ANOTHER_STATE)
    with ExitStack() as stack:
        # In one order for everybody, so that of two that start together one gets all.
        for _, place in sorted(places.items()):
            stack.enter_context(_locked(place, holder))
        yield


@contextmanager
def _locked(place: _Place, holder: Holder) -> Iterator[None]:
    path = place.path.with_name(place.path.name + ".lock")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise cannot_open(f"the lock of {place.setting}", path, error) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(_refusal(place, descriptor)) from None
        _write_name(descriptor, holder)
        try:
            yield
        finally:
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _write_name(descriptor: int, holder: Holder) -> None:
    named = {"pid": holder.pid, "config": holder.config, "since": holder.since}
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(named).encode()[:_NAME_BYTES_MAX] + b"\n", 0)


def _refusal(place: _Place, descriptor: int) -> str:
    try:
        named = json.loads(os.pread(descriptor, _NAME_BYTES_MAX + 1, 0))
        who = f"process {named['pid']}, running {named['config']} since {named['since']}"
    except (ValueError, KeyError, TypeError):  # it holds the lock and has not signed it yet
        who = "another instance, which is just starting or stopping"
    return f"{place.path} is held by {who}; stop it first, or give this one {place.another}"


def _resolved(path: Path) -> Path:
    """The same file has one name, whatever way leads to its folder."""
    return path.parent.resolve() / path.name
