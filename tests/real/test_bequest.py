"""Two programs that are not the same speak to each other; workers find the one that goes on."""

from pathlib import Path

import msgspec
import pytest

from balancer.admin.socket_file import SocketFile, open_socket_file
from balancer.supervisor.bequest import Estate, Handle, Handles, said
from balancer.supervisor.heritage import channel_to_predecessor
from balancer.supervisor.processes import next_channel
from balancer.wire.network import KernelNetwork
from balancer.worker.process import Dialler


def test_what_one_of_two_versions_does_not_know_is_passed_over() -> None:
    tomorrow = {"type": "Estate", "pid": 1, "document": {}, "rows": [2], "moon": "full"}
    assert said(msgspec.msgpack.encode(tomorrow)) == Estate(1, {}, (2,))
    yesterday = {"type": "Handles", "which": [{"kind": "lock", "name": "a"}, {"kind": "moon"}]}
    assert said(msgspec.msgpack.encode(yesterday)) == Handles((Handle("lock", "a"), Handle("moon")))
    with pytest.raises(ValueError, match="NewWord"):
        said(msgspec.msgpack.encode({"type": "NewWord"}))


def test_who_was_not_started_to_take_over_does_not() -> None:
    assert channel_to_predecessor({"PATH": "/bin"}) is None


async def test_a_worker_finds_its_supervisor_before_and_after_the_take_over(tmp_path: Path) -> None:
    """One that has dialled once looks where supervisors always are."""
    network, home = KernelNetwork(), tmp_path / "workers"
    before = open_socket_file(network, home)
    after = open_socket_file(network, tmp_path / "workers.1")
    worker, late = (Dialler(str(home), str(after.path)) for _ in range(2))

    async def heard_by(file: SocketFile, dialler: Dialler) -> None:
        theirs = await dialler.dial()
        ours = await next_channel(file.sock)
        theirs.close()
        ours.close()

    await heard_by(after, worker)
    await heard_by(before, worker)  # should the new one fail now, the old one is there
    after.move(home)
    await heard_by(after, worker)
    await heard_by(after, late)
    before.close()
    assert home.exists(), "the file is no longer its own"
    after.close()
    assert not home.exists()
