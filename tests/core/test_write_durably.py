"""A saved document is the old one or the new one, whole, whenever the power goes."""

import errno
from pathlib import Path

import pytest

from balancer.supervisor.state_file import NotDurable, write_durably
from tests.support.crashing_disk import CrashingDisk, PowerCut

PATH = Path("/var/lib/balancer/state.json")
OLD = b"the old document"
NEW = b"the new document, longer than the old"


def disk_with_old() -> CrashingDisk:
    disk = CrashingDisk()
    write_durably(disk, PATH, OLD)
    disk.calls.clear()
    return disk


def steps_of_a_save() -> int:
    disk = disk_with_old()
    write_durably(disk, PATH, NEW)
    return len(disk.calls)


@pytest.mark.parametrize("step", range(steps_of_a_save()))
def test_a_power_cut_before_any_step_leaves_the_old_or_the_new(step: int) -> None:
    disk = disk_with_old()
    disk.stop_at = step
    with pytest.raises(PowerCut):
        write_durably(disk, PATH, NEW)
    assert set(disk.states_after_power_cut(PATH)) <= {OLD, NEW}


@pytest.mark.parametrize("step", range(steps_of_a_save()))
def test_a_first_save_that_is_cut_leaves_nothing_or_the_whole(step: int) -> None:
    disk = CrashingDisk(stop_at=step)
    with pytest.raises(PowerCut):
        write_durably(disk, PATH, NEW)
    assert set(disk.states_after_power_cut(PATH)) <= {None, NEW}


def test_after_a_save_has_returned_the_new_is_there_for_certain() -> None:
    disk = disk_with_old()
    write_durably(disk, PATH, NEW)
    assert set(disk.states_after_power_cut(PATH)) == {NEW}


@pytest.mark.parametrize("step", range(steps_of_a_save() - 1))
def test_a_step_that_fails_before_the_rename_leaves_the_old_and_no_litter(step: int) -> None:
    disk = disk_with_old()
    steps = disk_with_old()
    write_durably(steps, PATH, NEW)
    disk.stop_at, disk.failure = step, OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match="No space"):
        write_durably(disk, PATH, NEW)
    assert disk.names[PATH].written == OLD


def test_a_folder_that_cannot_be_synced_is_told_apart() -> None:
    """The new one is in its place by then, and may or may not survive a power cut."""
    disk = disk_with_old()
    disk.stop_at, disk.failure = steps_of_a_save() - 1, OSError(errno.EIO, "Input/output error")
    with pytest.raises(NotDurable, match="Input/output error"):
        write_durably(disk, PATH, NEW)
    assert disk.names[PATH].written == NEW


def test_the_fake_disk_does_tell_a_save_without_syncs_from_one_with_them() -> None:
    """A save that forgets to sync would be caught: its new name may lead to half the bytes."""

    class Forgetful(CrashingDisk):
        def sync(self, descriptor: int) -> None:
            return

    disk = Forgetful()
    write_durably(disk, PATH, OLD)
    assert set(disk.states_after_power_cut(PATH)) - {OLD}
