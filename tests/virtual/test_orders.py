"""The operator's orders: saved or refused, told before what follows, and never more than asked."""

import socket
from collections.abc import Mapping

import pytest
import structlog
import trio
from trio.testing import MockClock

from balancer.admin.control import NotApplied
from balancer.rehearsal.stage import ADMIN_SOCKET
from balancer.supervisor.events import Event, EventKind
from balancer.supervisor.orders import RETRY_S, SAVE_S_MAX
from balancer.supervisor.state_file import MemoryStateStore, StateNotSaved
from balancer.wire.network import Sock
from tests.support.edge_client import fetch
from tests.support.scene import ADDRESSES, Scene, scene
from tests.support.virtual_backend import answers

A, B, C = (ADDRESSES[name] for name in "abc")
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Disk(MemoryStateStore):
    """Takes `takes_s` for a save, and fails while `broken`."""

    def __init__(self) -> None:
        super().__init__()
        self.takes_s = 0.0
        self.broken = False
        self.tries = 0

    async def save(self, data: Mapping[str, object]) -> None:
        """Save late, or not at all."""
        self.tries += 1
        await trio.sleep(self.takes_s)
        if self.broken:
            raise StateNotSaved("cannot write the state file: no space; nothing was changed")
        await super().save(data)


def events(play: Scene) -> list[Event]:
    return play.stage.instance.events.since(0)[1]


# ---- remove


async def test_a_request_that_came_while_a_removal_was_saved_may_finish(
    autojump_clock: MockClock,
) -> None:
    """Nothing ran when the operator was allowed to remove; nobody agreed to cut anything."""
    disk = Disk()
    async with scene({"a": answers(200, b"a", after_s=2)}, store=disk) as play:
        disk.takes_s = 0.5
        told: list[str] = []

        async def remove() -> None:
            told.append((await play.stage.instance.desk.remove("web", A, force=False)).message)

        play.nursery.start_soon(remove)
        await trio.sleep(0.1)
        client = await play.client()
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        answer = await client.answer()
        assert (answer.status, answer.body) == (200, b"a")
        assert told == [f"removed {A} of pool web"]


# ---- the disk


async def test_an_order_that_hangs_in_the_disk_is_refused_while_its_giver_still_listens(
    autojump_clock: MockClock,
) -> None:
    disk = Disk()
    async with scene({"a": answers(200), "b": answers(200)}, store=disk) as play:
        disk.takes_s = 1000
        sock = await _admin(play)
        began = trio.current_time()
        with structlog.testing.capture_logs() as lines:
            sock.send(
                b"POST /v1/pools/web/backends/10.0.0.1%3A80/drain HTTP/1.1\r\nHost: x\r\n\r\n"
            )
            await play.network.wait_readable(sock)
        reply = sock.recv(4096)
        sock.close()
        assert trio.current_time() - began == pytest.approx(SAVE_S_MAX)
        assert b" 500 " in reply
        assert b"did not save the state within 3 s; the instance is unchanged" in reply
        assert play.backend_status("a")["admin"] == "ready"
        refused = next(line for line in lines if line["event"] == "order.not_applied")
        assert (refused["pool"], refused["backend"]) == ("web", A)
        assert "did not save the state" in refused["because"]
        disk.takes_s = 0


async def test_an_answer_may_take_longer_than_a_request(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several orders that wait for one slow disk are each answered, whatever it takes."""
    monkeypatch.setattr("balancer.supervisor.orders.SAVE_S_MAX", 100.0)
    disk = Disk()
    async with scene({"a": answers(200), "b": answers(200)}, store=disk) as play:
        disk.takes_s = 30
        sock = await _admin(play)
        sock.send(b"POST /v1/pools/web/backends/10.0.0.1%3A80/drain HTTP/1.1\r\nHost: x\r\n\r\n")
        await play.network.wait_readable(sock)
        assert b" 200 " in sock.recv(4096)
        sock.close()
        disk.takes_s = 0


async def test_a_save_of_health_that_failed_is_tried_again_without_a_change(
    autojump_clock: MockClock,
) -> None:
    disk = Disk()
    passive = 'passive = { consecutive_failures = 2, base_ejection = "600s" }'
    async with scene({"a": answers(503), "b": answers(200)}, pool=passive, store=disk) as play:
        disk.broken = True
        for _ in range(6):
            await fetch(play.network)
        assert play.backend_status("a")["ejected"]
        await trio.sleep(RETRY_S / 2)
        assert disk.tries == 1
        assert disk.load() is None
        disk.broken = False
        await trio.sleep(RETRY_S)
        assert "ejected" in str(disk.load())


async def test_what_a_refused_order_may_have_left_in_the_file_is_overwritten(
    autojump_clock: MockClock,
) -> None:
    class Treacherous(Disk):
        async def save(self, data: Mapping[str, object]) -> None:
            await MemoryStateStore.save(self, data)
            if self.broken:
                raise StateNotSaved("cannot make durable the state file: it failed")

    disk = Treacherous()
    async with scene({"a": answers(200), "b": answers(200)}, store=disk) as play:
        disk.broken = True
        with pytest.raises(NotApplied, match="cannot make durable"):
            await play.stage.instance.desk.drain("web", A)
        disk.broken = False
        await trio.sleep(RETRY_S + 1)
        document = disk.load()
        assert document is not None
        assert "draining" not in str(document["overlay"])


async def _admin(play: Scene) -> Sock:
    sock = play.network.socket(socket.AF_UNIX)
    sock.connect_ex(ADMIN_SOCKET)
    await play.network.wait_writable(sock)
    return sock


# ---- what is told


async def test_an_order_is_told_before_what_it_causes(autojump_clock: MockClock) -> None:
    """With one of two ejected, draining the other leaves nobody; cause comes before effect."""
    passive = 'passive = { consecutive_failures = 2, base_ejection = "600s" }'
    async with scene({"a": answers(503), "b": answers(200)}, pool=passive) as play:
        for _ in range(6):
            await fetch(play.network)
        seen = len(events(play))
        await play.stage.instance.desk.drain("web", B)
        await trio.lowlevel.checkpoint()
        new = events(play)[seen:]
        assert new[0].kind is EventKind.BACKEND_DRAINING
        assert len(new) > 1, [event.sentence for event in new]


async def test_an_order_is_told_by_what_it_changed_and_names_its_backend_once(
    autojump_clock: MockClock,
) -> None:
    async with scene({"a": answers(200), "b": answers(200)}) as play:
        control = play.stage.instance.desk
        seen = len(events(play))
        await control.add("web", C, 2)
        await control.add("web", C, 5)
        await control.weight("web", C, 0)
        await control.drain("web", A)
        await control.maintenance("web", A)
        await control.ready("web", A)
        await control.remove("web", C, force=False)
        told = [(event.kind.value, event.sentence) for event in events(play)[seen:]]
    assert told == [
        ("backend.added", f"web {C}: added by the operator with weight 2; takes requests as soon"
         " as it is known to be healthy"),
        ("backend.weight", f"web {C}: weight set to 5 by the operator (was 2); its share of new"
         " requests changes"),
        ("backend.weight", f"web {C}: weight set to 0 by the operator (was 5); takes no new"
         " requests"),
        ("backend.draining", f"web {A}: set to draining by the operator (was ready); takes no new"
         " requests; what runs may finish"),
        ("backend.maintenance", f"web {A}: set to maintenance by the operator (was draining);"
         " takes no requests and is not probed"),
        ("backend.ready", f"web {A}: set to ready by the operator (was maintenance); takes"
         " requests when it is healthy"),
        ("backend.removed", f"web {C}: removed by the operator; is gone from the pool"),
    ]  # fmt: skip
