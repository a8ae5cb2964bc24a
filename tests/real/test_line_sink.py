"""Where lines go: a slow, full or broken place costs lines, is counted, and holds nobody up."""

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing
from trio.testing import wait_all_tasks_blocked

from balancer.telemetry import line_sink
from balancer.telemetry.line_sink import (
    FLUSH_BYTES,
    FLUSH_EVERY_S,
    LAST_LINES_S,
    WAITING_BYTES_MAX,
    FileSink,
    MemorySink,
    is_unread,
)

LINE = b"x" * 1023 + b"\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    for fd in (reading, writing):
        with contextlib.suppress(OSError):  # the test has closed it
            os.close(fd)


def read_whole(fd: int, size: int) -> bytes:
    data = b""
    while len(data) < size and (piece := os.read(fd, size - len(data))):
        data += piece
    return data


def fill(fd: int) -> int:
    """Fill a pipe, which does not block from then on; how many bytes it holds."""
    os.set_blocking(fd, False)
    filled = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            filled += os.write(fd, LINE)
    return filled


def test_memory_keeps_the_lines() -> None:
    sink = MemorySink()
    sink.write(b"a\n")
    assert sink.lines == [b"a\n"]


async def test_lines_are_written_in_order(tmp_path: Path) -> None:
    sink = FileSink(str(tmp_path / "log"))
    for line in (b"a\n", b"b\n"):
        sink.write(line)
    await sink.flush()
    sink.write(b"c\n")
    await sink.flush()
    assert (tmp_path / "log").read_bytes() == b"a\nb\nc\n"
    assert (tmp_path / "log").stat().st_mode & 0o777 & ~0o640 == 0
    os.close(sink._fd)


async def test_a_file_is_continued_never_cut(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"before\n")
    sink = FileSink(str(tmp_path / "log"))
    sink.write(b"after\n")
    await sink.flush()
    assert (tmp_path / "log").read_bytes() == b"before\nafter\n"
    os.close(sink._fd)


async def test_run_writes_soon_and_the_last_lines_on_the_way_out(pipe: tuple[int, int]) -> None:
    sink = FileSink(pipe[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sink.run)
        sink.write(b"soon\n")
        assert await trio.to_thread.run_sync(os.read, pipe[0], 99) == b"soon\n"
        sink.write(b"last\n")
        nursery.cancel_scope.cancel()
    assert os.read(pipe[0], 99) == b"last\n"


async def test_what_is_being_written_at_the_end_is_written_whole(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that ends takes the thread with it that has not written yet."""
    monkeypatch.setattr(line_sink, "FLUSH_EVERY_S", 0.0)
    monkeypatch.setattr(line_sink, "LAST_LINES_S", 60.0)
    filled = fill(pipe[1])
    sink = FileSink(pipe[1])
    ended = trio.Event()

    async def run_and_end(scope: trio.CancelScope) -> None:
        with scope:
            await sink.run()
        ended.set()

    scope = trio.CancelScope()
    async with trio.open_nursery() as nursery:
        sink.write(b"under way\n")
        nursery.start_soon(run_and_end, scope)
        await wait_all_tasks_blocked(0.01)
        sink.write(b"last\n")
        scope.cancel()
        await wait_all_tasks_blocked(0.01)
        assert not ended.is_set()
        await trio.to_thread.run_sync(read_whole, pipe[0], filled)
        with trio.fail_after(5):
            await ended.wait()
    assert os.read(pipe[0], 99) == b"under way\nlast\n"


async def test_a_stuck_place_holds_up_the_end_for_a_second(pipe: tuple[int, int]) -> None:
    filled = fill(pipe[1])
    sink = FileSink(pipe[1])
    sink.write(b"late\n")
    with trio.fail_after(LAST_LINES_S + 5):
        with trio.move_on_after(FLUSH_EVERY_S * 2):
            await sink.run()
    # A process would have ended; here, the thread must.
    assert (await trio.to_thread.run_sync(read_whole, pipe[0], filled + 5)).endswith(b"late\n")


async def test_much_is_written_before_its_time(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_sink, "FLUSH_EVERY_S", 3600.0)
    sink = FileSink(pipe[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sink.run)
        await wait_all_tasks_blocked()
        for _ in range(FLUSH_BYTES // len(LINE)):
            sink.write(LINE)
        with trio.fail_after(5):
            read = await trio.to_thread.run_sync(read_whole, pipe[0], FLUSH_BYTES)
        assert read == LINE * (FLUSH_BYTES // len(LINE))
        nursery.cancel_scope.cancel()


async def test_an_idle_sink_does_not_wake_up(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    steps = 0

    class Count(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            nonlocal steps
            steps += 1

    sink = FileSink(str(tmp_path / "log"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sink.run)
        trio.lowlevel.add_instrument(count := Count())
        await trio.sleep(3600)
        trio.lowlevel.remove_instrument(count)
        nursery.cancel_scope.cancel()
    assert steps < 10
    os.close(sink._fd)


async def test_lines_of_several_writers_come_whole_through_one_pipe(pipe: tuple[int, int]) -> None:
    """Each batch is larger than the pipe, so a single write of it would be broken by others."""
    line_count = 2000
    writers = [
        [
            b"%d:%d:" % (writer, number) + b"x" * (number % 700) + b"\n"
            for number in range(line_count)
        ]
        for writer in range(3)
    ]
    size = sum(len(line) for lines in writers for line in lines)
    async with trio.open_nursery() as nursery:
        for lines in writers:
            sink = FileSink(pipe[1])
            for line in lines:
                sink.write(line)
            nursery.start_soon(sink.flush)
        read = await trio.to_thread.run_sync(read_whole, pipe[0], size)
    seen = read.splitlines(keepends=True)
    for writer, lines in enumerate(writers):
        assert [line for line in seen if line.startswith(b"%d:" % writer)] == lines


async def test_a_line_above_the_size_of_a_pipe_is_written_too(pipe: tuple[int, int]) -> None:
    lines = [b"a\n", b"b" * 10_000 + b"\n", b"c\n", b"no end"]
    sink = FileSink(pipe[1])
    for line in lines:
        sink.write(line)
    await sink.flush()
    assert read_whole(pipe[0], sum(map(len, lines))) == b"".join(lines)


async def test_a_stuck_place_holds_nobody_and_its_losses_are_told(pipe: tuple[int, int]) -> None:
    """A pipe that nobody reads: the flush waits in its thread, write() never does."""
    sink = FileSink(pipe[1])
    kept = WAITING_BYTES_MAX // len(LINE)
    for _ in range(kept):
        sink.write(LINE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sink.flush)
        await wait_all_tasks_blocked()
        for _ in range(1000):
            sink.write(LINE)
        assert sink.dropped == 1000
        read = await trio.to_thread.run_sync(read_whole, pipe[0], kept * len(LINE))
        assert read == kept * LINE
    sink.write(b"after\n")
    await sink.flush()
    assert os.read(pipe[0], 999) == b'after\n{"event":"lines.dropped","lines":1000}\n'
    sink.write(b"once\n")
    await sink.flush()
    assert os.read(pipe[0], 99) == b"once\n"


async def test_the_count_is_told_even_when_lines_fill_all_the_room(tmp_path: Path) -> None:
    sink = FileSink(str(tmp_path / "log"))
    for _ in range(WAITING_BYTES_MAX // len(LINE) + 7):
        sink.write(LINE)
    await sink.flush()
    assert (tmp_path / "log").read_bytes().endswith(b'{"event":"lines.dropped","lines":7}\n')
    os.close(sink._fd)


async def test_what_cannot_be_written_is_counted_and_told_when_it_can(tmp_path: Path) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    sink = FileSink(full)
    for _ in range(3):
        sink.write(b"lost\n")
    await sink.flush()
    assert sink.dropped == 3
    sink.write(b"lost\n")
    await sink.flush()
    assert sink.dropped == 4
    works = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    os.dup2(works, full)
    os.close(works)
    await sink.flush()
    assert (tmp_path / "log").read_bytes() == b'{"event":"lines.dropped","lines":4}\n'
    os.close(full)


async def test_a_line_that_a_full_disk_tore_is_no_part_of_the_next_and_whole_ones_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, room, write = tmp_path / "log", [25], os.write

    def into_what_is_left(fd: int, data: memoryview) -> int:
        size = min(len(data), room[0])
        if not size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        room[0] -= size
        return write(fd, data[:size])

    monkeypatch.setattr(os, "write", into_what_is_left)
    told: list[str | None] = []
    sink = FileSink(
        str(path), lambda failure: told.append(None if failure is None else failure.strerror)
    )
    for number in range(4):
        sink.write(b'{"line":%d}\n' % number)
    await sink.flush()
    await sink.flush()
    assert sink.dropped == 2
    assert told == ["No space left on device"]
    room[0] = 1000
    sink.write(b'{"line":4}\n')
    await sink.flush()
    await sink.flush()
    assert path.read_bytes().split(b"\n") == [
        b'{"line":0}', b'{"line":1}', b'{"l',
        b'{"line":4}', b'{"event":"lines.dropped","lines":2}', b"",
    ]  # fmt: skip
    assert told == ["No space left on device", None]
    os.close(sink._fd)


async def test_a_pipe_whose_reader_has_gone_raises_nothing(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    sink = FileSink(pipe[1])
    sink.write(b"lost\n")
    await sink.flush()
    assert sink.dropped == 1


async def test_a_descriptor_that_does_not_block_loses_nothing() -> None:
    """Standard output may be shared with a program that made it non-blocking."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        sink = FileSink(ours.fileno())
        lines = WAITING_BYTES_MAX // len(LINE)
        for _ in range(lines):
            sink.write(LINE)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sink.flush)
            size = lines * len(LINE)
            read = await trio.to_thread.run_sync(read_whole, theirs.fileno(), size)
        assert read == lines * LINE
        assert sink.dropped == 0


async def test_after_a_rotation_lines_go_to_the_new_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    sink = FileSink(str(path))
    number = sink._fd
    sink.write(b"old\n")
    await sink.flush()
    path.rename(tmp_path / "log.1")
    sink.write(b"still old\n")
    await sink.flush()
    sink.reopen()
    sink.write(b"new\n")
    await sink.flush()
    assert (tmp_path / "log.1").read_bytes() == b"old\nstill old\n"
    assert path.read_bytes() == b"new\n"
    assert sink._fd == number, "a write under way must not meet somebody else's descriptor"
    assert not os.get_inheritable(number)
    os.close(sink._fd)


async def test_a_path_that_cannot_be_reopened_keeps_the_old_file(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    sink = FileSink(str(folder / "log"))
    folder.rename(tmp_path / "gone")
    sink.reopen()
    sink.write(b"kept\n")
    await sink.flush()
    assert (tmp_path / "gone" / "log").read_bytes() == b"kept\n"
    os.close(sink._fd)


async def test_a_pipe_that_nobody_reads_yet_holds_up_nobody_and_keeps_its_lines(
    tmp_path: Path,
) -> None:
    path = tmp_path / "log"
    os.mkfifo(path)
    sink = FileSink(str(path))
    assert is_unread(sink._fd)
    sink.write(b"early\n")
    await sink.flush()
    with path.open("rb", buffering=0) as reader:
        assert reader.read(100) == b"early\n"
        sink.reopen()
        assert not is_unread(sink._fd)
        sink.write(b"late\n")
        await sink.flush()
        assert reader.read(100) == b"late\n"
    os.close(sink._fd)


async def test_a_pipe_whose_reader_comes_back_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "log"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    sink = FileSink(str(path))
    os.close(reader)
    sink.write(b"lost\n")
    await sink.flush()
    assert sink.dropped == 1
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    sink.write(b"kept\n")
    await sink.flush()
    assert b"kept\n" in os.read(reader, 100)
    os.close(reader)
    os.close(sink._fd)


async def test_a_place_that_is_no_file_is_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "log"))
        with pytest.raises(OSError, match="No such device"):
            FileSink(str(tmp_path / "log"))


async def test_a_descriptor_that_was_given_is_not_reopened(pipe: tuple[int, int]) -> None:
    sink = FileSink(pipe[1])
    sink.reopen()
    sink.write(b"a\n")
    await sink.flush()
    assert os.read(pipe[0], 9) == b"a\n"
