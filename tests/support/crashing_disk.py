"""A disk in memory that loses power: what was not synced may be there, half there, or gone."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path


class PowerCut(BaseException):
    """The machine stops here; nothing after this call happens, no cleanup either."""


@dataclass
class File:
    """Bytes as the program sees them, and as they are on the platter for certain."""

    written: bytes = b""
    synced: bytes = b""


@dataclass
class CrashingDisk:
    """`Disk` that ends at its `stop_at`-th call with `failure`; counts calls from 0."""

    stop_at: int | None = None
    failure: BaseException = field(default_factory=PowerCut)
    names: dict[Path, File] = field(default_factory=dict)
    synced_names: dict[Path, File] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    _open: dict[int, File] = field(default_factory=dict)
    short_writes: bool = True

    def states_after_power_cut(self, path: Path) -> Iterator[bytes | None]:
        """Every content that `path` may have when the power is back."""
        for names in (self.names, self.synced_names):
            file = names.get(path)
            if file is None:
                yield None
                continue
            yield file.synced
            yield file.written
            if file.written != file.synced:
                yield file.written[: len(file.written) // 2]

    def make_folder(self, folder: Path) -> None:
        self._step("make_folder")

    def create(self, path: Path) -> int:
        self._step("create")
        # O_TRUNC: an old file of that name loses its bytes, at some time, for certain
        self.names[path] = File()
        self._open[len(self.calls)] = self.names[path]
        return len(self.calls)

    def write(self, descriptor: int, data: bytes) -> int:
        self._step("write")
        part = data[: max(1, len(data) // 2)] if self.short_writes else data
        self._open[descriptor].written += part
        return len(part)

    def sync(self, descriptor: int) -> None:
        self._step("sync")
        file = self._open[descriptor]
        file.synced = file.written

    def close(self, descriptor: int) -> None:
        self._step("close")
        del self._open[descriptor]

    def replace(self, source: Path, target: Path) -> None:
        self._step("replace")
        self.names[target] = self.names.pop(source)

    def sync_folder(self, folder: Path) -> None:
        self._step("sync_folder")
        self.synced_names = dict(self.names)

    def read(self, path: Path) -> bytes:
        if path not in self.names:
            raise FileNotFoundError
        return self.names[path].written

    def remove(self, path: Path) -> None:
        self._step("remove")
        self.names.pop(path, None)

    def exists(self, path: Path) -> bool:
        return path in self.names

    def _step(self, call: str) -> None:
        self.calls.append(call)
        if self.stop_at is not None and len(self.calls) > self.stop_at:
            raise self.failure
