"""Keeps what must survive a restart: one JSON document, replaced whole or not at all.

Decides when a saved document is safe to speak of (after two fsyncs) and what to do with one that
cannot be read (keep it aside, say so, start empty). It does not know what the document means.
"""

import json
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import trio

from balancer.admin.control import NotApplied
from balancer.telemetry.logs import get_logger

# Raised when an older version could misread the document.
FORMAT = 1
_READ_BYTES = 1 << 20

log = get_logger()


class StateNotSaved(NotApplied):
    """The document could not be made durable; str() says which one stands."""


class NotDurable(OSError):
    """The new document has its name; whether that survives a power cut is not known."""


class StateUnreadable(Exception):
    """The file is there and may not be read; starting empty would lose it. str() is a sentence."""


class StateStore(Protocol):
    """Where an instance keeps its document."""

    def load(self) -> dict[str, object] | None:
        """What was saved last; None when nothing was, or when it was damaged."""
        ...

    async def save(self, data: Mapping[str, object]) -> None:
        """Make `data` durable before returning; raises StateNotSaved, which says what stands."""
        ...


class MemoryStateStore:
    """Keeps the document as text in memory: for rehearsals, and for `run --to` without a file."""

    def __init__(self, text: str | None = None) -> None:
        self.text = text

    def load(self) -> dict[str, object] | None:
        return None if self.text is None else _decoded(self.text.encode())

    async def save(self, data: Mapping[str, object]) -> None:
        self.text = _encoded(data).decode()
        await trio.lowlevel.checkpoint()


class Disk(Protocol):
    """The calls of the operating system that durability is made of; each may fail or be the last."""

    def make_folder(self, folder: Path) -> None: ...
    def create(self, path: Path) -> int: ...
    def write(self, descriptor: int, data: bytes) -> int: ...
    def sync(self, descriptor: int) -> None: ...
    def close(self, descriptor: int) -> None: ...
    def replace(self, source: Path, target: Path) -> None: ...
    def sync_folder(self, folder: Path) -> None: ...
    def read(self, path: Path) -> bytes: ...
    def remove(self, path: Path) -> None: ...
    def exists(self, path: Path) -> bool: ...


class KernelDisk:
    """The real one. Files are private: they name backends and paths."""

    def make_folder(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def create(self, path: Path) -> int:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)

    def write(self, descriptor: int, data: bytes) -> int:
        return os.write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        os.fsync(descriptor)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    def replace(self, source: Path, target: Path) -> None:
        source.replace(target)

    def sync_folder(self, folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def read(self, path: Path) -> bytes:
        return path.read_bytes()

    def remove(self, path: Path) -> None:
        path.unlink()

    def exists(self, path: Path) -> bool:
        return path.exists()


class FileStateStore:
    """Keeps the document in a file. Saves happen in a thread, one at a time, in order of call.

    A save that is cancelled (a disk may hang) gives up before the rename, or has happened. While its
    thread hangs, further saves are refused at once: each would take a thread with it.
    """

    def __init__(self, path: Path, disk: Disk | None = None) -> None:
        self._path = path
        self._disk = KernelDisk() if disk is None else disk
        self._turn = trio.Lock()
        self._thread = trio.CapacityLimiter(1)

    def load(self) -> dict[str, object] | None:
        try:
            raw = self._disk.read(self._path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateUnreadable(_trouble("read", self._path, error)) from error
        try:
            return _decoded(raw)
        except ValueError as error:
            self._put_aside(error)
            return None

    async def save(self, data: Mapping[str, object]) -> None:
        text = _encoded(data)  # now: the caller may go on changing what it passed
        async with self._turn:
            if self._thread.borrowed_tokens:
                sentence = f"the disk still hangs in an earlier save of {self._path}"
                raise StateNotSaved(f"{sentence}; nothing was changed")
            wanted = threading.Event()
            wanted.set()
            try:
                await trio.to_thread.run_sync(
                    write_durably,
                    *(self._disk, self._path, text, wanted.is_set),
                    abandon_on_cancel=True,
                    limiter=self._thread,
                )
            except NotDurable as error:
                raise StateNotSaved(
                    f"{_trouble('make durable', self._path, error)}; the instance is unchanged, "
                    "but a restart just now might find the change in the file"
                ) from error
            except OSError as error:
                sentence = _trouble("write", self._path, error)
                raise StateNotSaved(f"{sentence}; nothing was changed") from error
            finally:
                wanted.clear()

    def _put_aside(self, error: ValueError) -> None:
        number = 1
        while self._disk.exists(aside := _beside(self._path, f".damaged-{number}")):
            number += 1
        try:
            self._disk.replace(self._path, aside)
        except OSError as trouble:
            raise StateUnreadable(_trouble("put aside", self._path, trouble)) from trouble
        log.error(
            "state.damaged",
            file=str(self._path),
            because=str(error),
            effect=f"kept as {aside}; started from the configuration alone",
        )


def write_durably(
    disk: Disk, path: Path, data: bytes, wanted: Callable[[], bool] = lambda: True
) -> None:
    """Replace `path` by `data`: at every moment, also of a crash, it holds the old or the new whole.

    The order is what makes it so: contents reach the disk before the name does, and the name before
    the caller is told. Nobody `wanted` it any more: the old stays. Raises NotDurable when only the
    last step failed; any other OSError leaves the old.
    """
    beside = _beside(path, ".new")
    disk.make_folder(path.parent)
    try:
        descriptor = disk.create(beside)
        try:
            left = memoryview(data)
            while left:
                left = left[disk.write(descriptor, bytes(left[:_READ_BYTES])) :]
            disk.sync(descriptor)
        finally:
            disk.close(descriptor)
        if not wanted():
            disk.remove(beside)
            return
        disk.replace(beside, path)
    except OSError:
        with suppress(OSError):
            disk.remove(beside)
        raise
    try:
        disk.sync_folder(path.parent)
    except OSError as error:
        raise NotDurable(error.errno, error.strerror) from error


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _encoded(data: Mapping[str, object]) -> bytes:
    # Without `indent`, which costs ten times as much: `jq . FILE` shows it to people.
    text = json.dumps({"format": FORMAT, "state": data}, separators=(",", ":"))
    return text.encode() + b"\n"


def _decoded(raw: bytes) -> dict[str, object]:
    """The document in `raw`; ValueError says what is wrong with it."""
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("state"), dict):
        raise ValueError("it holds no state")  # noqa: TRY004 - the value of a file
    if document.get("format") != FORMAT:
        raise ValueError(f"its format is {document.get('format')!r}, this version reads {FORMAT}")
    state: dict[str, object] = document["state"]
    return state


def _trouble(verb: str, path: Path, error: OSError) -> str:
    return f"cannot {verb} the state file {path}: {error.strerror or error}"
