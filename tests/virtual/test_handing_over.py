"""What an instance does when another one takes its place, as far as one process can play it."""

import pytest
import trio
from trio.testing import MockClock

from balancer.admin.control import NotApplied
from balancer.core.ledger import Ledger
from balancer.rehearsal.stage import MORNING
from balancer.supervisor.events import EventKind, EventLog
from balancer.supervisor.state_file import MemoryStateStore
from tests.support.edge_client import EdgeClient, fetch
from tests.support.scene import ADDRESSES, Scene, scene
from tests.support.virtual_backend import answers, trickles

A, B = ADDRESSES["a"], ADDRESSES["b"]
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Outside:
    """A process that could be replaced, and has nothing."""

    def leave(self) -> None:
        """Nothing to leave."""


def pass_on(play: Scene) -> None:
    """As after the word that another process serves."""
    instance = play.stage.instance
    object.__setattr__(instance._around, "outside", Outside())
    instance._pass_on(4711)


async def resting(play: Scene) -> EdgeClient:
    client = await play.client()
    await client.send(GET)
    assert (await client.answer()).complete
    return client


async def test_who_rests_is_not_dismissed_by_an_upgrade_but_told_with_the_next_answer(
    autojump_clock: MockClock,
) -> None:
    """So no request ever meets a connection that is just being closed."""
    async with scene({"a": answers(200, b"a")}) as play:
        client = await resting(play)
        pass_on(play)
        await trio.sleep(30)
        await client.send(GET)
        answer = await client.answer()
        assert answer.complete
        assert answer.header("connection") == "close"


async def test_who_hands_over_has_no_limit_until_somebody_asks(autojump_clock: MockClock) -> None:
    slow = trickles(b"x" * 120, piece=1, every_s=1.0)
    async with scene({"a": slow}, top='shutdown_timeout = "3s"') as play:
        client = await play.client()
        await client.send(GET)
        await trio.sleep(1)
        pass_on(play)
        await trio.sleep(60)
        assert play.stage.worker.service.running
        began = trio.current_time()
        play.stage.instance.stop_sooner()
        assert not (await client.answer()).complete
        assert trio.current_time() - began == pytest.approx(3, abs=1)


async def test_a_worker_out_of_touch_finishes_what_it_runs_when_its_instance_hands_over(
    autojump_clock: MockClock,
) -> None:
    """It finds the other process where it dials, which has it drain; ours hears no more of it."""
    async with scene({"a": trickles(b"x" * 10, piece=1, every_s=1.0)}) as play:
        client = await play.client()
        await client.send(GET)
        await trio.sleep(1)
        play.stage.crew.unattended = True
        play.stage.crew.processes[0].hang_up()
        pass_on(play)
        assert (await client.answer()).complete
        play.stage.instance.stop_sooner()
        play.stage.instance.stop_sooner()


async def test_who_has_handed_over_obeys_saves_and_probes_no_more(
    autojump_clock: MockClock,
) -> None:
    store = MemoryStateStore()
    slow = trickles(b"x" * 600, piece=1, every_s=1.0)
    async with scene({"a": slow}, store=store) as play:
        desk, orders = play.stage.instance.desk, play.stage.instance.orders
        client = await play.client()
        await client.send(GET)
        taken: list[dict[str, object]] = []

        async def take(document: dict[str, object]) -> None:
            taken.append(document)
            await trio.sleep(1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(orders.pass_on, take)
            await trio.sleep(0.5)
            with pytest.raises(NotApplied, match="another process has taken over"):
                await desk.drain("web", A)  # it has waited, and then it was too late
        pass_on(play)
        store.text = "of the next one"
        await trio.sleep(1)
        assert desk.readiness()[0], "the instance serves, whoever of it is asked"
        play.stage.instance.stop(now=True)
        await client.answer()
    assert store.text == "of the next one"
    assert taken[0]["overlay"] == {"pools": {}}


async def test_a_hand_over_that_fails_leaves_orders_as_they_were(
    autojump_clock: MockClock,
) -> None:
    async with scene({"a": answers(200, b"a"), "b": answers(200, b"b")}) as play:

        async def take(document: dict[str, object]) -> None:
            raise NotApplied("it did not come up")

        with pytest.raises(NotApplied):
            await play.stage.instance.orders.pass_on(take)
        assert (await play.stage.instance.desk.drain("web", A)).changed


async def test_a_successor_goes_by_what_happened_while_it_prepared(
    autojump_clock: MockClock,
) -> None:
    """Orders and ejections of the other one; of health what it has seen itself."""
    async with scene({"a": answers(200, b"a"), "b": answers(200, b"b")}) as play:
        instance = play.stage.instance
        pools = instance.orders.document(instance.orders.ledger)["pools"]
        assert isinstance(pools, dict)
        of_b = pools["web"]["backends"][B]
        of_b["health"] = {"state": "unhealthy", "cause": "long ago", "age_s": 60.0}
        of_b["ejection"] = {
            "standing": "ejected", "times": 1, "age_s": 1.0, "left_s": 20.0,
            "ejected_age_s": 1.0, "cause": "3 failures",
        }  # fmt: skip
        file = {"web": {A: 1, B: 1}}
        ledger, _ = Ledger.of(file, None).set_weight("web", A, 7)
        instance.orders.renew(file, {"overlay": ledger.overlay(), "pools": pools})
        rows = {row["address"]: row for row in _rows(play)}
        assert rows[A]["weight"] == 7
        assert rows[B]["ejected"]
        assert [(await fetch(play.network)).body for _ in range(4)] == [b"a"] * 4
        await trio.sleep(25)
        rows = {row["address"]: row for row in _rows(play)}
        assert not rows[B]["ejected"]


def _rows(play: Scene) -> list[dict[str, object]]:
    pools = play.stage.instance.desk.status(None)["pools"]
    assert isinstance(pools, dict)
    return list(pools["web"]["backends"])


def test_a_log_of_changes_goes_on_where_another_ended() -> None:
    before, after = (EventLog(wall=lambda: MORNING, kept=4) for _ in range(2))
    for number in range(6):
        before.add(EventKind.LISTENER_OPEN, cause=f"listener {number}")
    after.add(EventKind.BACKEND_HEALTHY, cause="first probe passed", pool="web", backend=A)
    kept = [*before.recent(2), {"seq": 3, "kind": "of.tomorrow"}, {}]
    after.go_on_from(before.last, kept)
    assert after.last == 7
    assert [event["seq"] for event in after.recent(0) if "seq" in event] == [4, 5, 6, 7]
    assert after.recent(0)[0] == {"missed": 3}
    after.add(EventKind.INSTANCE_STARTED, cause="it took over")
    assert after.last == 8
