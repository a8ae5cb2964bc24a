"""The state file on a real disk: durable, private, and kept aside when it is damaged."""

import json
import threading
from pathlib import Path

import pytest
import structlog
import trio

from balancer.supervisor.state_file import (
    FileStateStore,
    KernelDisk,
    MemoryStateStore,
    StateNotSaved,
    StateStore,
    StateUnreadable,
)

STATE: dict[str, object] = {"pools": {"web": {"127.0.0.1:9001": "draining"}}}


async def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "new" / "state.json"
    assert FileStateStore(path).load() is None
    await FileStateStore(path).save(STATE)
    assert FileStateStore(path).load() == STATE


async def test_memory_keeps_the_same_as_a_file() -> None:
    store: StateStore = MemoryStateStore()
    assert store.load() is None
    await store.save(STATE)
    assert store.load() == STATE


async def test_file_and_new_folder_are_private(tmp_path: Path) -> None:
    path = tmp_path / "new" / "state.json"
    await FileStateStore(path).save(STATE)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [entry.name for entry in path.parent.iterdir()] == ["state.json"]


@pytest.mark.parametrize(
    "damaged", [b"", b'{"format": 1, "sta', b"[]", b'{"format": 9, "state": {}}', b"\xff\xfe"]
)
async def test_a_damaged_file_is_kept_aside_and_told(tmp_path: Path, damaged: bytes) -> None:
    path = tmp_path / "state.json"
    (tmp_path / "state.json.damaged-1").write_bytes(b"an earlier one")
    path.write_bytes(damaged)
    with structlog.testing.capture_logs() as lines:
        assert FileStateStore(path).load() is None
    assert not path.exists()
    assert (tmp_path / "state.json.damaged-1").read_bytes() == b"an earlier one"
    assert (tmp_path / "state.json.damaged-2").read_bytes() == damaged
    assert [line["event"] for line in lines] == ["state.damaged"]


async def test_a_file_that_may_not_be_read_is_no_empty_state(tmp_path: Path) -> None:
    """Starting empty would overwrite it at the next command."""
    path = tmp_path / "state.json"
    path.mkdir()
    with pytest.raises(StateUnreadable, match="cannot read the state file"):
        FileStateStore(path).load()


async def test_a_full_disk_is_a_sentence_and_the_old_state_stands(tmp_path: Path) -> None:
    class FullDisk(KernelDisk):
        def write(self, descriptor: int, data: bytes) -> int:
            raise OSError(28, "No space left on device")

    path = tmp_path / "state.json"
    await FileStateStore(path).save(STATE)
    with pytest.raises(StateNotSaved, match=r"No space left on device; nothing was changed"):
        await FileStateStore(path, FullDisk()).save({})
    assert FileStateStore(path).load() == STATE
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.json"]


async def test_saves_that_overlap_end_in_the_order_of_their_calls(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    store = FileStateStore(path)
    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(store.save, {"number": number})
            await trio.testing.wait_all_tasks_blocked()
    assert store.load() == {"number": 9}


async def test_a_disk_that_hangs_holds_nobody_and_its_late_work_is_dropped(tmp_path: Path) -> None:
    """Whoever gave up was told that nothing changed, so nothing may change later."""
    hangs, goes_on = threading.Event(), threading.Event()

    class HangingDisk(KernelDisk):
        def sync(self, descriptor: int) -> None:
            if not goes_on.is_set():
                hangs.set()
                goes_on.wait(10)
            super().sync(descriptor)

    path = tmp_path / "state.json"
    store = FileStateStore(path, HangingDisk())
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.save, {"number": 1})
            await trio.to_thread.run_sync(hangs.wait)
            scope.cancel()
    assert not path.exists()
    limiter = trio.to_thread.current_default_thread_limiter()
    for _ in range(int(limiter.total_tokens) + 1):  # one thread hangs, and not one for each try
        with pytest.raises(StateNotSaved, match="still hangs in an earlier save"):
            await store.save({"number": 2})
    assert limiter.borrowed_tokens == 0
    goes_on.set()
    await _saved_at_last(store, {"number": 3})
    assert store.load() == {"number": 3}
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.json"]


async def _saved_at_last(store: StateStore, state: dict[str, object]) -> None:
    """Save as soon as the thread that hung has come back."""
    with trio.fail_after(10):
        while True:
            try:
                return await store.save(state)
            except StateNotSaved:
                await trio.sleep(0.001)


async def test_a_folder_that_cannot_be_synced_is_told_as_what_it_is(tmp_path: Path) -> None:
    """The file may hold the new state by then, so "nothing was changed" would be a lie."""

    class NoFolderSync(KernelDisk):
        def sync_folder(self, folder: Path) -> None:
            raise OSError(5, "Input/output error")

    path = tmp_path / "state.json"
    with pytest.raises(StateNotSaved) as told:
        await FileStateStore(path, NoFolderSync()).save(STATE)
    assert "cannot make durable the state file" in str(told.value)
    assert "Input/output error; the instance is unchanged, but a restart" in str(told.value)
    assert "nothing was changed" not in str(told.value)


async def test_a_save_writes_what_it_was_given_even_if_that_changes_meanwhile(
    tmp_path: Path,
) -> None:
    path = tmp_path / "state.json"
    store = FileStateStore(path)
    state: dict[str, object] = {"weight": 1}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.save, state)
        await trio.testing.wait_all_tasks_blocked()
        state["weight"] = 2
    assert json.loads(path.read_bytes()) == {"format": 1, "state": {"weight": 1}}
