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

_NAME_BYTES_MAX = 4096


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


@contextmanager
def hold(*, state: Path | None, socket: Path, holder: Holder) -> Iterator[None]:
    """Hold both places while the block runs.

    Raises AlreadyRunning, or OSError when a lock file cannot be made. The lock files stay behind,
    empty: to delete one would let two instances lock two files of one name.
    """
    # In one order for everybody, so that of two that start together one gets all.
    places = sorted({_resolved(path) for path in (state, socket) if path is not None})
    with ExitStack() as stack:
        for place in places:
            stack.enter_context(_locked(place, holder))
        yield


@contextmanager
def _locked(place: Path, holder: Holder) -> Iterator[None]:
    path = place.with_name(place.name + ".lock")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
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


def _refusal(place: Path, descriptor: int) -> str:
    try:
        named = json.loads(os.pread(descriptor, _NAME_BYTES_MAX + 1, 0))
        who = f"process {named['pid']}, running {named['config']} since {named['since']}"
    except (ValueError, KeyError, TypeError):  # it holds the lock and has not signed it yet
        who = "another instance, which is just starting or stopping"
    return f"{place} is held by {who}; stop it first, or give this one a place of its own"


def _resolved(path: Path) -> Path:
    """The same file has one name, whatever way leads to its folder."""
    return path.parent.resolve() / path.name
