"""News of one backend, in the pool that it belongs to: what follows, and what it costs."""

from typing import cast

import pytest
import trio
from trio.testing import MockClock

from balancer.config.load import load_text
from balancer.core.board import Counts
from balancer.core.ledger import Ledger
from balancer.core.snapshot import pool_snapshot
from balancer.supervisor import pool_book
from balancer.supervisor.pool_book import PoolBook
from balancer.supervisor.reporting import pool_status
from balancer.supervisor.state_file import MemoryStateStore
from healthcheck.core.health_table import HealthTable
from healthcheck.core.verdict import Evidence, Outcome, Verdict
from tests.support.edge_client import fetch
from tests.support.scene import ADDRESSES, config_for, scene
from tests.support.virtual_backend import answers, by_target, in_turn

A, B, C = (ADDRESSES[name] for name in "abc")
PASS = Verdict(Outcome.PASS, "status 200")
FAIL = Verdict(Outcome.FAIL, "status 503, expected 200-299")
HEALTH = '[pools.web.health]\npath = "/health"\ninterval = "2s"\ntimeout = "1s"\njitter = 0.0\n'


def book_of(count: int) -> PoolBook:
    addresses = ", ".join(f'"10.1.{n // 250}.{n % 250 + 1}:80"' for n in range(count))
    text = config_for("a", pool=HEALTH).replace(f'backends = ["{A}"]', f"backends = [{addresses}]")
    settings = load_text(text, "t", {}).pools["web"]
    file = {"web": {backend.address: 1 for backend in settings.backends}}
    entries = Ledger.of(file, None).entries("web")
    return PoolBook("web", settings, entries, saved={}, now=0.0)


def test_most_news_costs_the_same_in_a_pool_of_a_thousand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every verdict and every failed request drew all thousand backends anew, 30 ms each time."""
    book = book_of(1000)
    addresses = list(book.entries)
    for address in addresses:
        book.verdict(address, PASS, 1.0)
    drawn = 0
    real = pool_snapshot

    def counting(*words: object, **more: object) -> object:
        nonlocal drawn
        drawn += 1
        return real(*words, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(pool_book, "pool_snapshot", counting)
    snapshot = book.snapshot
    for address in addresses[:100]:
        book.verdict(address, PASS, 2.0)
        book.verdict(address, FAIL, 3.0)
        book.evidence(address, Evidence.FAILURE, "status 503", 4.0, 3.5)
    assert drawn == 0
    assert book.snapshot is snapshot
    assert "1 of 3 probes failed" in book.views[addresses[0]].reason
    for now in (4.0, 5.0):
        book.verdict(addresses[0], FAIL, now)
    assert drawn == 1
    assert book.snapshot.available == 999


def test_ejections_that_end_together_draw_the_pool_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each drew it anew: 400 ejections that ended in one moment held the loop for a second."""
    book = book_of(100)
    addresses = list(book.entries)
    for address in addresses:
        book.verdict(address, PASS, 1.0)
    for address in addresses[:40]:
        for _ in range(book.settings.passive.consecutive_failures):
            book.evidence(address, Evidence.FAILURE, "status 503", 2.0, 1.5)
    assert book.snapshot.numbers == "60 of 100 backends available"
    drawn = 0
    real = pool_snapshot

    def counting(*words: object, **more: object) -> object:
        nonlocal drawn
        drawn += 1
        return real(*words, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(pool_book, "pool_snapshot", counting)
    assert len(book.tick(10_000.0)) == 40
    assert drawn == 1
    assert book.snapshot.numbers == "100 of 100 backends available"


async def test_a_status_of_a_thousand_asks_nothing_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """It put together every backend's words again, and looked each one up among all others."""
    book = book_of(1000)
    counts = dict.fromkeys((view.id for view in book.views.values()), Counts(0, 0, 0))

    def asked(*_words: object) -> object:
        raise AssertionError("the status is to be told from what was drawn")

    monkeypatch.setattr(HealthTable, "view", asked)
    told = pool_status(book, counts, 1.0, 1_800_000_000.0)
    assert len(cast("list[object]", told["backends"])) == 1000


async def test_a_trial_ends_with_a_success_that_began_in_it(autojump_clock: MockClock) -> None:
    """One from before the ejection was taken for the news, and the trial never ended."""
    slow_then_bad = in_turn(answers(200, after_s=4), answers(503), answers(200))
    rules = 'policy = "weighted-round-robin"\n'
    rules += 'passive = { consecutive_failures = 1, base_ejection = "1s" }'
    # With this seed the first turn is a's.
    async with scene({"a": slow_then_bad, "b": answers(200)}, pool=rules, seed=4) as play:
        async with trio.open_nursery() as clients:
            for _ in range(2):  # in turns, so one of them goes to a
                clients.start_soon(fetch, play.network)
            await trio.sleep(0.1)
            while not play.backend_status("a")["ejected"]:
                await fetch(play.network)
                await trio.sleep(0.05)
        assert play.backend_status("a")["on_trial"]
        for _ in range(12):
            await fetch(play.network)
            await trio.sleep(0.5)
        assert not play.backend_status("a")["on_trial"]


async def test_an_attempt_from_before_a_trial_does_not_hold_its_only_place(
    autojump_clock: MockClock,
) -> None:
    """One that hung since before the ejection kept every other away, and the trial never ended."""
    hangs_then_fails = in_turn(answers(200, after_s=25), answers(503), answers(200, after_s=2))
    rules = 'policy = "weighted-round-robin"\n'
    rules += 'passive = { consecutive_failures = 1, base_ejection = "1s" }'
    # With this seed the first turn is a's.
    async with scene({"a": hangs_then_fails, "b": answers(200)}, pool=rules, seed=4) as play:
        async with trio.open_nursery() as clients:
            for _ in range(2):  # in turns, so one of them goes to a
                clients.start_soon(fetch, play.network)
            await trio.sleep(0.1)
            while not play.backend_status("a")["ejected"]:
                await fetch(play.network)
                await trio.sleep(0.05)
            await trio.sleep(2)
            assert play.backend_status("a")["on_trial"]
            for _ in range(6):
                clients.start_soon(fetch, play.network)
                await trio.sleep(0.05)
            assert play.backend_status("a")["in_flight"] == 2, "the one that hangs, and the trial"
            await trio.sleep(3)
            assert not play.backend_status("a")["on_trial"]
            assert play.backend_status("a")["in_flight"] == 1
        assert play.backend_status("a")["in_flight"] == 0


async def test_a_trial_that_an_older_attempt_outlives_holds_one_place(
    autojump_clock: MockClock,
) -> None:
    """An older attempt that ends gives no second place to the trial."""
    older_then_slow = in_turn(answers(200, after_s=3), answers(503), answers(200, after_s=20))
    rules = 'policy = "weighted-round-robin"\n'
    rules += 'passive = { consecutive_failures = 1, base_ejection = "1s" }'
    async with (
        scene({"a": older_then_slow, "b": answers(200)}, pool=rules) as play,
        trio.open_nursery() as clients,
    ):
        for _ in range(2):  # in turns, so one of them goes to a
            clients.start_soon(fetch, play.network)
        await trio.sleep(0.1)
        while not play.backend_status("a")["ejected"]:
            await fetch(play.network)
            await trio.sleep(0.05)
        for _ in range(2):
            await trio.sleep(2)
            for _ in range(6):
                clients.start_soon(fetch, play.network)
            await trio.sleep(0.05)
        assert play.backend_status("a")["on_trial"]
        assert play.backend_status("a")["in_flight"] == 1


async def test_where_all_are_on_trial_nobody_is_told_of_a_limit(autojump_clock: MockClock) -> None:
    """It read "at most 1 at a time" while four were in flight."""
    passive = 'passive = { consecutive_failures = 1, base_ejection = "3s" }'
    failing = in_turn(answers(503), answers(200, after_s=1))
    async with scene({"a": failing, "b": answers(200)}, pool=passive) as play:
        while not play.backend_status("a")["ejected"]:
            await fetch(play.network)
        await play.stage.instance.desk.drain("web", B)
        await trio.sleep(0.1)
        async with trio.open_nursery() as clients:
            for _ in range(4):
                clients.start_soon(fetch, play.network)
            await trio.sleep(0.5)
            shown = play.backend_status("a")
        assert shown["in_flight"] == 4
        assert shown["on_trial"]
        assert "at a time" not in f"{shown['reason']} {shown['explanation']}"


async def test_a_first_fail_opens_nothing_while_others_are_still_asked(
    autojump_clock: MockClock,
) -> None:
    """It began a panic, and clients were served by the one backend known to be bad."""
    bad = by_target({"/health": answers(503)}, answers(200, b"bad"))
    late = by_target({"/health": answers(200, after_s=0.8)}, answers(200, b"good"))
    async with scene({"a": bad, "b": late}, pool=HEALTH) as play:
        assert (await fetch(play.network)).body == b"good"
        assert not [s for s in play.stage.sentences() if "panic" in s or "ignored" in s]


async def test_a_drain_brings_back_whom_the_share_no_longer_covers(
    autojump_clock: MockClock,
) -> None:
    """Until something else happened, the pool stayed in panic beside a backend that works."""
    passive = 'passive = { consecutive_failures = 1, base_ejection = "300s" }'
    failing = in_turn(answers(503), answers(200))
    async with scene({"a": failing, "b": answers(200)}, pool=passive) as play:
        for _ in range(4):
            await fetch(play.network)
        assert play.backend_status("a")["ejected"]
        await play.stage.instance.desk.drain("web", B)
        await trio.sleep(1)
        assert play.backend_status("a")["on_trial"]
        assert (await fetch(play.network)).status == 200


async def test_a_backend_of_weight_0_is_no_other_that_works(autojump_clock: MockClock) -> None:
    passive = "passive = { consecutive_failures = 1, max_ejected_ratio = 1.0 }"
    async with scene({"a": answers(503), "b": answers(200)}, pool=passive) as play:
        await play.stage.instance.desk.weight("web", B, 0)
        for _ in range(5):
            await fetch(play.network)
        assert not play.backend_status("a")["ejected"]


async def test_a_restored_panic_is_told(autojump_clock: MockClock) -> None:
    store = MemoryStateStore()
    bad = by_target({"/health": answers(503)}, answers(200))
    async with scene({"a": bad}, pool=HEALTH, store=store) as play:
        await trio.sleep(10)
    async with scene({"a": bad}, pool=HEALTH, store=store) as play:
        first = (await fetch(play.network)).header("x-balancer-panic")
        assert first == "1"
        assert any("health and ejections are ignored" in s for s in play.stage.sentences())


async def test_a_pool_out_of_which_the_last_one_was_drained_has_not_recovered(
    autojump_clock: MockClock,
) -> None:
    """It read "recovered" while every client got 503; and the order comes before what it causes."""
    bad = by_target({"/health": answers(503)}, answers(200))
    well = by_target({"/health": answers(200)}, answers(200))
    async with scene({"a": bad, "b": well}, pool=HEALTH) as play:
        await trio.sleep(3)
        instance = play.stage.instance
        await instance.desk.drain("web", B)
        await instance.desk.drain("web", A)
        assert (await fetch(play.network)).status == 503
        await instance.desk.ready("web", B)
        kinds = [event.kind.value for event in instance.events.since(0)[1]]
        ends = [kind for kind in kinds if kind.startswith(("pool.", "backend.dr", "backend.re"))]
        assert ends == [
            "backend.draining",
            "pool.panic",
            "backend.draining",
            "pool.panic",
            "backend.ready",
            "pool.recovered",
        ]
        assert sum("nobody is left" in said for said in play.stage.sentences()) == 1


async def test_what_is_not_probed_is_not_known_after_a_restart(autojump_clock: MockClock) -> None:
    store = MemoryStateStore()
    well = by_target({"/health": answers(200)}, answers(200))
    async with scene({"a": well, "b": well}, pool=HEALTH, store=store) as play:
        await play.stage.instance.desk.maintenance("web", A)
    document = store.load()
    assert document is not None
    assert A not in str(document["pools"])
