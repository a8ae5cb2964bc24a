"""One reload: what is new is looked at first, what stays is not forgotten, what fails changes nothing."""

from collections.abc import Mapping

import pytest
import trio
from trio.testing import MockClock

from balancer.admin.control import NotApplied
from balancer.core.backend import AdminState, BackendId
from balancer.core.board import NO_CELL
from balancer.core.ledger import Refused
from balancer.supervisor.events import EventKind
from balancer.supervisor.state_file import MemoryStateStore, StateNotSaved
from healthcheck.core.verdict import Evidence
from tests.support.reload_scene import ADDRESSES, HEALTH, ReloadScene, config, reload_scene

A, B, C, D = (ADDRESSES[name] for name in "abcd")


def failed(scene: ReloadScene, address: str, times: int) -> None:
    """So many requests to that backend have failed."""
    book = scene.pools.books["web"]
    for _ in range(times):
        now = trio.current_time()
        book.evidence(address, Evidence.FAILURE, "connection reset", now, now)


# ---- what stays


async def test_the_same_file_changes_nothing(autojump_clock: MockClock) -> None:
    async with reload_scene("a b") as scene:
        snapshot, events = scene.pools.books["web"].snapshot, scene.events.last
        done = await scene.reloading.reload()
        assert (done.changed, done.message) == (False, "edge.toml: nothing changed")
        assert scene.pools.books["web"].snapshot is snapshot
        assert scene.events.last == events
        assert scene.serving.told == []


async def test_health_ejections_streaks_and_drains_stay(autojump_clock: MockClock) -> None:
    quiet = "passive = { end_on_pass = false }\n"
    async with reload_scene("a b c d", text=config("a b c d", pool=quiet)) as scene:
        scene.backends["a"].kill()
        await trio.sleep(5)
        assert scene.candidates() == "bcd"
        failed(scene, B, 5)
        await scene.orders.give(BackendId("web", C), lambda ledger: ledger.drain("web", C))
        failed(scene, D, 4)
        book = scene.pools.books["web"]
        before = {address: book.view(address) for address in (A, B, C)}
        told = await scene.reload(
            config("a b c d e", pool=quiet + 'timeouts = { connect = "3s" }', top="workers = 2")
        )
        assert told.startswith(
            "reloaded edge.toml: pool web: 1 backend added, timeouts.connect changed; workers"
        )
        assert scene.pools.books["web"] is book
        assert {address: book.view(address) for address in (A, B, C)} == before
        assert book.entries[C].admin is AdminState.DRAINING
        await scene.backend("e")
        await trio.sleep(2)
        failed(scene, D, 1)
        assert book.view(D).ejected, "four failures from before and one from after are five"


async def test_a_pool_that_does_not_change_is_not_touched(autojump_clock: MockClock) -> None:
    more = f'[pools.api]\nbackends = ["{D}"]\n'
    routes = '[[routes]]\npool = "web"\n'
    async with reload_scene("a b", text=config("a b", more=more + routes)) as scene:
        api = scene.pools.books["api"].snapshot
        await scene.backend("c")
        await scene.reload(config("a b c", more=more + routes))
        assert scene.pools.books["api"].snapshot is api


async def test_probes_of_what_stays_keep_their_pace(autojump_clock: MockClock) -> None:
    async with reload_scene("a") as scene:
        await scene.backend("b")
        await trio.sleep(0.3)
        seen = len(scene.backends["a"].requests)
        for backends in ("a b", "a", "a b", "a"):
            await scene.reload(config(backends))
        assert len(scene.backends["a"].requests) - seen <= 2


# ---- what is new


async def test_nothing_is_switched_before_the_new_has_passed_for_the_old(
    autojump_clock: MockClock,
) -> None:
    async with reload_scene("a b") as scene:
        await scene.backend("c", after_s=0.4)
        await scene.backend("d", after_s=0.4)
        seen: list[str] = []

        async def look() -> None:
            while True:
                seen.append(scene.candidates())
                await trio.sleep(0.01)

        scene.nursery.start_soon(look)
        told = await scene.reload(config("c d"))
        assert scene.candidates() == "cd"
        await trio.sleep(0.05)
        assert {*seen} == {"ab", "cd"}
        assert told == "reloaded edge.toml: pool web: 2 backends added, 2 backends removed"


async def test_a_pool_that_is_down_switches_to_what_has_passed(autojump_clock: MockClock) -> None:
    """A first verdict still to come takes no traffic, not even in a panic."""
    async with reload_scene("a") as scene:
        await scene.backend("b", after_s=0.4)
        scene.backends["a"].kill()
        await trio.sleep(5)
        assert scene.pools.books["web"].snapshot.panic
        await scene.reload(config("b"))
        assert scene.candidates() == "b"
        assert not scene.pools.books["web"].snapshot.panic


async def test_who_only_joins_is_not_waited_for(autojump_clock: MockClock) -> None:
    async with reload_scene("a") as scene:
        await scene.backend("b", after_s=0.4)
        began = trio.current_time()
        told = await scene.reload(config("a b"))
        assert trio.current_time() == began
        assert told.endswith("1 backend added; pool web: 1 of 2 backends available")
        assert scene.candidates() == "a"
        await trio.sleep(1)
        assert scene.candidates() == "ab"


async def test_new_ones_that_fail_are_waited_for_until_their_verdict(
    autojump_clock: MockClock,
) -> None:
    async with reload_scene("a b") as scene:
        told = await scene.reload(config("a c"))  # nobody is there at c
        assert scene.candidates() == "a"
        assert told == "reloaded edge.toml: pool web: 1 backend added, 1 backend removed"
        assert any("first probe failed" in sentence for sentence in scene.sentences())


async def test_nobody_is_waited_for_longer_than_start_timeout(autojump_clock: MockClock) -> None:
    slow = HEALTH.replace("500ms", "60s")
    async with reload_scene("a") as scene:
        await scene.backend("b", after_s=50)
        began = trio.current_time()
        told = await scene.reload(config("b", health=slow, top='start_timeout = "3s"'))
        assert trio.current_time() - began == pytest.approx(3)
        assert told.endswith("pool web: 0 of 1 backends available")


async def test_a_pool_that_is_new_serves_from_its_first_pass(autojump_clock: MockClock) -> None:
    async with reload_scene("a") as scene:
        await scene.backend("b", after_s=0.2)
        more = f'[pools.api]\nbackends = ["{B}", "{C}"]\n[pools.api.health]\n{HEALTH}'
        told = await scene.reload(config("a", more=f'{more}[[routes]]\npool = "api"\n'))
        assert "pool api added; routes changed" in told
        assert scene.candidates("api") == "b"
        assert list(scene.pools.books) == ["web", "api"]
        assert "new in edge.toml" in "".join(scene.sentences())


async def test_first_verdicts_are_told_after_the_backend_was_added(
    autojump_clock: MockClock,
) -> None:
    async with reload_scene("a") as scene:
        await scene.backend("b")
        start = scene.events.last
        await scene.reload(config("b"))
        kinds = [(event.kind, event.backend) for event in scene.events.since(start)[1]]
        assert kinds == [
            (EventKind.BACKEND_ADDED, B),
            (EventKind.BACKEND_REMOVED, A),
            (EventKind.BACKEND_HEALTHY, B),
            (EventKind.INSTANCE_RELOADED, None),
        ]
        added = scene.events.since(start)[1][0]
        assert added.cause == "added by edge.toml with weight 1"


# ---- what goes


async def test_who_was_removed_is_probed_no_more(autojump_clock: MockClock) -> None:
    more = f'[pools.api]\nbackends = ["{C}"]\n[pools.api.health]\n{HEALTH}'
    route = '[[routes]]\npool = "web"\n'
    async with reload_scene("a b", text=config("a b", more=more + route)) as scene:
        await scene.backend("c")
        await trio.sleep(2)
        await scene.reload(config("a", more=route))
        for backend in scene.backends.values():
            backend.requests.clear()
        await trio.sleep(5)
        assert scene.probed() == {"a"}
        assert list(scene.pools.books) == ["web"]
        assert "api: not in edge.toml; takes no new requests; what runs may finish" in (
            scene.sentences()
        )


async def test_evidence_of_a_pool_that_is_gone_is_let_go(autojump_clock: MockClock) -> None:
    more = f'[pools.api]\nbackends = ["{C}"]\n'
    route = '[[routes]]\npool = "web"\n'
    async with reload_scene("a", text=config("a", more=more + route)) as scene:
        await scene.reload(config("a", more=route))
        gone = BackendId("api", C)
        scene.pools.evidence(gone, Evidence.FAILURE, "connection reset", trio.current_time())


async def test_the_trouble_of_a_pool_goes_with_it(autojump_clock: MockClock) -> None:
    more = f'[pools.api]\nbackends = ["{C}"]\n[pools.api.health]\n{HEALTH}'
    route = '[[routes]]\npool = "web"\n'
    async with reload_scene("a", text=config("a", more=more + route)) as scene:
        await trio.sleep(3)
        await scene.orders.give(BackendId("api", C), lambda ledger: ledger.drain("api", C))
        assert scene.sentences()[-1].endswith("nobody is left to take requests")
        await scene.reload(config("a", more=route))
        await scene.backend("c")
        last = scene.events.last
        await scene.reload(config("a", more=more + route))
        kinds = {event.kind for event in scene.events.since(last)[1]}
        assert EventKind.BACKEND_HEALTHY in kinds
        assert EventKind.POOL_RECOVERED not in kinds


async def test_cells_of_the_board_go_round(autojump_clock: MockClock) -> None:
    """There are 63, and every reload brings a backend that was not there before."""
    async with reload_scene("a") as scene:
        for number in range(200):
            await scene.reload(config("a", health=None).replace(A, f"10.9.0.{number + 1}:80"))
            (view,) = scene.pools.books["web"].views.values()
            assert view.cell != NO_CELL


async def test_what_a_reload_has_learnt_is_saved_soon(autojump_clock: MockClock) -> None:
    async with reload_scene("a") as scene:
        await trio.sleep(5)
        await scene.backend("b")
        await scene.reload(config("b"))
        await trio.sleep(2)
        saved = scene.store.text or ""
        assert B in saved
        assert A not in saved


# ---- other rules


async def test_another_path_is_asked_for_at_once_and_takes_nobody_out(
    autojump_clock: MockClock,
) -> None:
    slow = HEALTH.replace('"1s"', '"60s"')
    async with reload_scene("a", text=config("a", health=slow)) as scene:
        await trio.sleep(5)
        scene.backends["a"].requests.clear()
        await scene.reload(config("a", health=slow.replace("/health", "/alive")))
        assert scene.candidates() == "a"
        await trio.sleep(1)
        assert [request.target for request in scene.backends["a"].requests] == ["/alive"]


async def test_checks_that_come_keep_the_pool_up_until_they_say_otherwise(
    autojump_clock: MockClock,
) -> None:
    async with reload_scene("a b", text=config("a b", health=None)) as scene:
        scene.backends["b"].kill()
        await scene.reload(config("a b"))
        assert scene.candidates() == "ab"
        await trio.sleep(5)
        assert scene.candidates() == "a"


async def test_checks_that_go_let_everybody_serve(autojump_clock: MockClock) -> None:
    async with reload_scene("a b") as scene:
        scene.backends["b"].kill()
        await trio.sleep(5)
        assert scene.candidates() == "a"
        await scene.reload(config("a b", health=None))
        assert scene.candidates() == "ab"
        for backend in scene.backends.values():
            backend.requests.clear()
        await trio.sleep(5)
        assert scene.probed() == set()


async def test_an_ejection_that_ends_sooner_by_the_new_rules_does(
    autojump_clock: MockClock,
) -> None:
    quiet = 'passive = { base_ejection = "300s", end_on_pass = false }'
    async with reload_scene("a b", text=config("a b", pool=quiet)) as scene:
        failed(scene, A, 5)
        assert scene.candidates() == "b"
        short = 'passive = { base_ejection = "2s", max_ejection = "2s", end_on_pass = false }'
        await scene.reload(config("a b", pool=short))
        await trio.sleep(2.5)
        assert scene.pools.books["web"].view(A).on_trial


# ---- the operator's orders


async def test_an_order_of_meanwhile_is_in_the_switch(autojump_clock: MockClock) -> None:
    """The reload waits for a first verdict; the operator does not wait for the reload."""
    async with reload_scene("a b") as scene:
        await scene.backend("c", after_s=0.4)

        async def drain() -> None:
            await scene.orders.give(BackendId("web", A), lambda ledger: ledger.drain("web", A))
            assert scene.candidates() == "b"

        scene.nursery.start_soon(drain)
        await scene.reload(config("a c"))
        assert scene.candidates() == "c"
        assert scene.pools.books["web"].entries[A].admin is AdminState.DRAINING


async def test_a_backend_that_the_operator_adds_meanwhile_is_there_once(
    autojump_clock: MockClock,
) -> None:
    async with reload_scene("a") as scene:
        await scene.backend("b", after_s=0.4)

        async def add() -> None:
            await trio.sleep(0.1)
            await scene.orders.give(BackendId("web", B), lambda ledger: ledger.add("web", B, None))

        scene.nursery.start_soon(add)
        await scene.reload(config("b"))
        assert scene.candidates() == "b"
        assert scene.pools.books["web"].entries[B].origin == "file"
        await trio.sleep(3)
        assert scene.candidates() == "b"


async def test_a_file_that_changes_a_backend_overrules_the_order_durably(
    autojump_clock: MockClock,
) -> None:
    async with reload_scene("a b") as scene:
        await scene.orders.give(BackendId("web", A), lambda ledger: ledger.drain("web", A))
        told = await scene.reload(config("a3 b"))
        assert "1 weight changed, 1 order overruled" in told
        assert scene.candidates() == "ab"
        stored = scene.store.load()
        assert stored is not None
        assert stored["overlay"] == {"pools": {}}


# ---- what fails


async def unchanged(scene: ReloadScene, error: type[Exception], words: str) -> None:
    """The reload of `scene.text` is refused so, and nothing is other than before."""
    settings, before = scene.reloading.settings, scene.pools.books["web"].snapshot
    with pytest.raises(error, match=words):
        await scene.reloading.reload()
    assert scene.reloading.settings is settings
    assert scene.pools.books["web"].snapshot is before
    assert scene.serving.told == []
    assert scene.serving.opened == []
    last = scene.events.since(0)[1][-1]
    assert (last.kind, last.effect) == (EventKind.RELOAD_FAILED, "goes on as before")
    for backend in scene.backends.values():
        backend.requests.clear()
    await trio.sleep(3)
    assert scene.probed() == {"a"}


async def test_a_file_with_errors_changes_nothing_and_all_are_told(
    autojump_clock: MockClock,
) -> None:
    async with reload_scene("a") as scene:
        scene.text = config("b", top='workers = "many"', bind="nowhere")
        await unchanged(
            scene,
            Refused,
            "edge.toml is not valid; nothing was changed\nedge.toml:2: .*\nedge.toml",
        )


async def test_what_cannot_change_while_running_changes_nothing(
    autojump_clock: MockClock,
) -> None:
    async with reload_scene("a") as scene:
        scene.text = config("b").replace("admin.sock", "other.sock")
        await unchanged(scene, Refused, "nothing was changed\nadmin.socket cannot change")


async def test_a_listener_that_cannot_be_opened_changes_nothing(
    autojump_clock: MockClock,
) -> None:
    async with reload_scene("a") as scene:
        scene.serving.cannot_open = "cannot listen on 127.0.0.1:81: address in use"
        scene.text = config("b", bind="127.0.0.1:81")
        await unchanged(scene, NotApplied, "address in use; nothing was changed")


class BrokenDisk(MemoryStateStore):
    """Saves nothing."""

    async def save(self, data: Mapping[str, object]) -> None:
        """Fail."""
        await trio.lowlevel.checkpoint()
        raise StateNotSaved("cannot write the state file: no space; nothing was changed")


class UnsureDisk(MemoryStateStore):
    """Says once that it cannot tell what a power cut would leave; it has the new document."""

    unsure = False

    async def save(self, data: Mapping[str, object]) -> None:
        """Save, and perhaps be unsure."""
        await super().save(data)
        if self.unsure:
            self.unsure = False
            raise StateNotSaved("cannot make durable the state file")


async def test_a_reload_that_was_refused_is_not_found_by_a_restart(
    autojump_clock: MockClock,
) -> None:
    disk = UnsureDisk()
    async with reload_scene("a b", store=disk) as scene:
        await scene.orders.give(BackendId("web", A), lambda ledger: ledger.drain("web", A))
        await trio.sleep(5)
        disk.unsure = True
        scene.text = config("a2 b")
        with pytest.raises(NotApplied, match="cannot make durable"):
            await scene.reloading.reload()
        assert "draining" not in (disk.text or "")
        await trio.sleep(2)
        assert "draining" in (disk.text or "")


async def test_what_cannot_be_saved_changes_nothing(autojump_clock: MockClock) -> None:
    async with reload_scene("a", store=BrokenDisk()) as scene:
        await scene.backend("b")
        scene.text = config("b", bind="127.0.0.1:81")
        await unchanged(scene, NotApplied, "no space; nothing was changed")


async def test_an_instance_that_stops_does_not_reload(autojump_clock: MockClock) -> None:
    async with reload_scene("a") as scene:
        await scene.backend("b", after_s=0.4)
        scene.nursery.start_soon(stop_later, scene)
        scene.text = config("b")
        began = trio.current_time()
        await unchanged(scene, NotApplied, "the instance is stopping; nothing was changed")
        assert trio.current_time() - began == pytest.approx(3.2)


async def stop_later(scene: ReloadScene) -> None:
    await trio.sleep(0.2)
    scene.stopping.set()


async def test_a_reload_that_is_cancelled_leaves_nothing_behind(
    autojump_clock: MockClock,
) -> None:
    async with reload_scene("a") as scene:
        await scene.backend("b", after_s=0.4)
        scene.text = config("b", bind="127.0.0.1:81")
        with trio.move_on_after(0.2):
            await scene.reloading.reload()
        assert scene.serving.opened == []
        for backend in scene.backends.values():
            backend.requests.clear()
        await trio.sleep(3)
        assert scene.probed() == {"a"}
        assert scene.candidates() == "a"
        assert "1 backend added" in await scene.reload(config("a b"))


async def test_without_a_file_there_is_nothing_to_reload(autojump_clock: MockClock) -> None:
    async with reload_scene("a") as scene:
        scene.reloading._load = None
        await unchanged(scene, Refused, "there is no file to reload")


async def test_a_disk_that_does_not_give_the_file_is_not_waited_for(
    autojump_clock: MockClock,
) -> None:
    async with reload_scene("a") as scene:
        scene.reloading._load = trio.sleep_forever
        began = trio.current_time()
        await unchanged(scene, NotApplied, "edge.toml could not be read within 10 s")
        assert trio.current_time() - began == pytest.approx(13)


# ---- the rest


async def test_listeners_are_opened_first_and_told_when_they_are_in_use(
    autojump_clock: MockClock,
) -> None:
    async with reload_scene("a") as scene:
        told = await scene.reload(config("a", bind="127.0.0.1:81"))
        assert "listener 127.0.0.1:81 added; listener 127.0.0.1:8080 removed" in told
        assert scene.serving.opened == ["127.0.0.1:81"]
        assert scene.sentences()[-3:-1] == [
            "listening on 127.0.0.1:81; accepts connections",
            "no longer listening on 127.0.0.1:8080; accepts no more connections",
        ]


async def test_laggards_are_named(autojump_clock: MockClock) -> None:
    async with reload_scene("a") as scene:
        scene.serving.laggards = ("worker 1",)
        scene.text = config("a2")
        assert (await scene.reloading.reload()).laggards == ("worker 1",)
        assert scene.sentences()[-1].endswith("not confirmed yet by worker 1")


async def test_two_reloads_come_one_after_the_other(autojump_clock: MockClock) -> None:
    async with reload_scene("a") as scene:
        await scene.backend("b", after_s=0.4)
        await scene.backend("c", after_s=0.4)
        done: list[str] = []

        async def reload() -> None:
            done.append((await scene.reloading.reload()).message)

        async with trio.open_nursery() as both:
            scene.text = config("b")
            both.start_soon(reload)
            await trio.sleep(0.1)
            scene.text = config("c")
            both.start_soon(reload)
        assert len(done) == 2
        assert scene.candidates() == "c"


async def test_hundreds_of_reloads_leave_nothing_behind(autojump_clock: MockClock) -> None:
    async with reload_scene("a b") as scene:
        await scene.reload(config("b"))
        tasks = len(scene.nursery.child_tasks)
        for round_ in range(300):
            await scene.reload(config(f"a{round_ % 7 + 1} b" if round_ % 2 else "b"))
        await scene.reload(config("b"))
        assert len(scene.nursery.child_tasks) == tasks
        assert list(scene.pools.books["web"].views) == [B]
        assert len(scene.pools._watching._watched) == 1


async def test_a_reload_that_has_waited_for_an_upgrade_changes_nothing_here(
    autojump_clock: MockClock,
) -> None:
    """Nor is it told as one that failed: the other process may well carry it out."""
    async with reload_scene("a") as scene:
        events = scene.events.last
        async with trio.open_nursery() as nursery, scene.reloading.one_at_a_time:
            nursery.start_soon(_is_told_to_ask_again, scene)
            await trio.sleep(1)
            await scene.orders.pass_on(_taken)
        assert scene.events.last == events


async def _taken(document: dict[str, object]) -> None:
    await trio.lowlevel.checkpoint()


async def _is_told_to_ask_again(scene: ReloadScene) -> None:
    with pytest.raises(NotApplied, match="another process has taken over; ask again"):
        await scene.reload(config("a b"))
