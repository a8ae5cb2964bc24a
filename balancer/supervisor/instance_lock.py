"""One instance per place: locks beside the state file and the admin socket, with the holder's name.

The kernel drops a lock with the last process that holds it, however that process ends, so nothing is
ever stale; the name inside the file is only for the message. A lock belongs to the open file, not to
the process, so a process that takes over gets the descriptor and both hold it; the name is that of
the one that serves. It moves and deletes nothing else.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

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


class Held:
    """Locks that are held; `descriptors` by lock file."""

    def __init__(self, descriptors: Mapping[str, int] = MappingProxyType({})) -> None:
        self.descriptors = dict(descriptors)
        self._signed = False

    def sign(self, holder: Holder) -> None:
        """Name the holder in every lock file."""
        self._signed = True
        for descriptor in self.descriptors.values():
            _write_name(descriptor, holder)

    def leave(self) -> None:
        """Let go of them, erasing nothing: the process that has them as well holds them on."""
        self._signed = False
        self.release()

    def release(self) -> None:
        """Let go of them, and erase our name."""
        while self.descriptors:
            _, descriptor = self.descriptors.popitem()
            if self._signed:
                os.ftruncate(descriptor, 0)
            os.close(descriptor)


@contextmanager
def hold(*, state: Path | None, socket: Path, holder: Holder) -> Iterator[Held]:
    """Hold both places while the block runs.

    Raises AlreadyRunning, or NoPlace when a lock file cannot be made. The lock files stay behind,
    empty: to delete one would let two instances lock two files of one name.
    """
    make_folder_of(SOCKET, socket)
    if state is not None:
        make_folder_of(STATE, state)
    with closing_locks(Held()) as held:
        for place in _places(state, socket):
            held.descriptors[str(_lock_file(place))] = _locked(place)
        held.sign(holder)
        yield held


@contextmanager
def closing_locks(held: Held) -> Iterator[Held]:
    """Release them at the end of the block."""
    try:
        yield held
    finally:
        held.release()


def is_vacant(socket: Path) -> bool:
    """Whether no process holds the place of an instance that has been there."""
    [path] = lock_files(state=None, socket=socket)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def lock_files(*, state: Path | None, socket: Path) -> set[str]:
    """The lock files of these places."""
    return {str(_lock_file(place)) for place in _places(state, socket)}


def _places(state: Path | None, socket: Path) -> list[_Place]:
    """In one order for everybody, so that of two that start together one gets all."""
    places = {_resolved(socket): _Place(_resolved(socket), SOCKET, ANOTHER_SOCKET)}
    if state is not None:
        places[_resolved(state)] = _Place(_resolved(state), STATE, ANOTHER_STATE)
    return [place for _, place in sorted(places.items())]


def _lock_file(place: _Place) -> Path:
    return place.path.with_name(place.path.name + ".lock")


def _locked(place: _Place) -> int:
    """The descriptor of a lock file that is ours now."""
    path = _lock_file(place)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise cannot_open(f"the lock of {place.setting}", path, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        refusal = _refusal(place, descriptor)
        os.close(descriptor)
        raise AlreadyRunning(refusal) from None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


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
