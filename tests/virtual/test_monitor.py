"""The monitor on a virtual clock: probes when they are due, verdicts once, nothing left behind."""

from collections import defaultdict
from collections.abc import Awaitable, Callable
from itertools import pairwise
from random import Random

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from healthcheck.core.verdict import Outcome, Verdict
from healthcheck.monitor import Monitor, Pace, ProbePlan
from healthcheck.probing import Probe

PLAN = ProbePlan(interval_s=10.0, transition_interval_s=2.0, timeout_s=2.0, jitter=0.0)
PASS = Verdict(Outcome.PASS, "status 200")
FAIL = Verdict(Outcome.FAIL, "connect refused")
UNANSWERED = Verdict(Outcome.FAIL, "no answer in 2 s")


class Ward:
    """A monitor under test: what it told, when each probe began, and how it is made to pace."""

    def __init__(self, **options: object) -> None:
        self.told: dict[str, list[tuple[float, Verdict]]] = defaultdict(list)
        self.began: dict[str, list[float]] = defaultdict(list)
        self.paces: dict[str, Pace] = {}
        self.first_began = trio.Event()
        self.running = 0
        self.most_running = 0
        self.monitor = Monitor(
            on_verdict=lambda target, verdict: self.told[target].append(
                (trio.current_time(), verdict)
            ),
            pace=lambda target: self.paces.get(target, Pace.STEADY),
            rng=Random(1),
            **options,  # type: ignore[arg-type]
        )

    def verdicts(self, target: str) -> list[Verdict]:
        return [verdict for _, verdict in self.told[target]]

    def watch(
        self, target: str, see: Callable[[], Awaitable[Verdict]], plan: ProbePlan = PLAN
    ) -> None:
        self.monitor.watch(target, plan, self.probe(target, see))

    def probe(self, target: str, see: Callable[[], Awaitable[Verdict]]) -> Probe:
        async def probe() -> Verdict:
            self.began[target].append(trio.current_time())
            self.first_began.set()
            self.running += 1
            self.most_running = max(self.most_running, self.running)
            try:
                return await see()
            finally:
                self.running -= 1

        return probe

    async def run_for(self, duration_s: float) -> None:
        with trio.move_on_after(duration_s):
            await self.monitor.run()


def answers(verdict: Verdict, after_s: float = 0.01) -> Callable[[], Awaitable[Verdict]]:
    async def see() -> Verdict:
        await trio.sleep(after_s)
        return verdict

    return see


async def never() -> Verdict:
    await trio.sleep_forever()
    raise AssertionError("woken from forever")


def gaps(times: list[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(times)]


# ---- on time -------------------------------------------------------------------------------------


async def test_one_black_hole_of_a_hundred_delays_nobody(autojump_clock: MockClock) -> None:
    ward = Ward()
    for number in range(99):
        ward.watch(f"b{number}", answers(PASS))
    ward.watch("hole", never)
    await ward.run_for(60.0)
    for number in range(99):
        began = ward.began[f"b{number}"]
        assert began[0] <= 0.2
        assert gaps(began) == pytest.approx([10.0] * 5)
    assert gaps(ward.began["hole"]) == pytest.approx([10.0] * 5), "the time-out costs no pace"
    assert set(ward.verdicts("hole")) == {UNANSWERED}


async def test_the_first_probe_comes_at_once(autojump_clock: MockClock) -> None:
    ward = Ward()
    ward.watch("a", answers(PASS))
    await ward.run_for(1.0)
    [(at, verdict)] = ward.told["a"]
    assert at == 0.01
    assert verdict == PASS
    assert verdict.began == ward.began["a"][0]


async def test_a_target_watched_later_is_probed_at_once_too(autojump_clock: MockClock) -> None:
    ward = Ward()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ward.monitor.run)
        await trio.sleep(100.0)
        ward.watch("a", answers(PASS))
        await trio.sleep(0.02)
        assert ward.verdicts("a") == [PASS]
        nursery.cancel_scope.cancel()


async def test_a_short_interval_has_its_first_probe_within_it(autojump_clock: MockClock) -> None:
    ward = Ward()
    plan = ProbePlan(interval_s=0.1, transition_interval_s=0.1, timeout_s=1.0, jitter=0.0)
    ward.watch("a", answers(PASS, after_s=0.0), plan)
    await ward.run_for(10.05)
    assert 100 <= len(ward.told["a"]) <= 101


async def test_a_crowd_is_spread_over_a_second_from_the_start(autojump_clock: MockClock) -> None:
    ward = Ward()
    for number in range(1000):
        ward.watch(f"b{number}", answers(PASS, after_s=0.0))
    await ward.run_for(2.0)
    firsts = [times[0] for times in ward.began.values()]
    assert len(firsts) == 1000
    busiest = max(sum(at <= first < at + 0.1 for first in firsts) for at in firsts)
    assert busiest <= 150
    assert max(firsts) <= 1.0


async def test_probes_that_are_due_together_share_a_wake_up(autojump_clock: MockClock) -> None:
    """Waking up costs as much as a third of a probe."""
    ward = Ward()
    jittery = ProbePlan(interval_s=10.0, transition_interval_s=10.0, timeout_s=2.0, jitter=0.1)
    for number in range(2000):
        ward.watch(f"b{number}", answers(PASS, after_s=0.0), jittery)
    await ward.run_for(100.0)
    late = [at for times in ward.began.values() for at in times if at > 50.0]
    assert len(late) > 5 * 2000 * 0.8
    assert len(late) / len(set(late)) > 3  # 200 a second, by some 40 wake-ups


async def test_jitter_keeps_within_its_share(autojump_clock: MockClock) -> None:
    ward = Ward()
    jittery = ProbePlan(interval_s=10.0, transition_interval_s=2.0, timeout_s=2.0, jitter=0.2)
    ward.watch("a", answers(PASS), jittery)
    await ward.run_for(2000.0)
    seen = gaps(ward.began["a"])
    assert min(seen) >= 8.0 - 1e-9
    assert max(seen) <= 12.0 + 1e-9
    assert max(seen) - min(seen) > 3.0


async def test_in_transition_probes_come_faster(autojump_clock: MockClock) -> None:
    ward = Ward()
    ward.watch("a", answers(FAIL))
    ward.paces["a"] = Pace.TRANSITION
    await ward.run_for(10.0)
    assert gaps(ward.began["a"]) == pytest.approx([2.0] * 4)


async def test_the_pace_is_asked_after_the_verdict_is_told(autojump_clock: MockClock) -> None:
    order: list[str] = []

    def pace(target: str) -> Pace:
        order.append("pace")
        return Pace.STEADY

    monitor = Monitor(
        on_verdict=lambda target, verdict: order.append("verdict"), pace=pace, rng=Random(1)
    )
    monitor.watch("a", PLAN, answers(PASS))
    with trio.move_on_after(15.0):
        await monitor.run()
    assert order == ["verdict", "pace"] * 2


async def test_a_timeout_above_the_interval_does_not_pile_up_probes(
    autojump_clock: MockClock,
) -> None:
    ward = Ward()
    plan = ProbePlan(interval_s=1.0, transition_interval_s=1.0, timeout_s=3.0, jitter=0.0)
    ward.watch("a", never, plan)
    await ward.run_for(30.0)
    assert ward.most_running == 1
    assert gaps(ward.began["a"]) == pytest.approx([3.0] * 9)


async def test_so_many_run_at_once_and_all_take_turns(autojump_clock: MockClock) -> None:
    """Nine holes and one that is well share three slots: nobody waits for more than his turn."""
    ward = Ward(max_concurrent=3)
    for number in range(9):
        ward.watch(f"hole{number}", never)
    ward.watch("well", answers(PASS))
    plan_turn_s = PLAN.timeout_s * 10 / 3 + 1
    await ward.run_for(300.0)
    assert ward.most_running == 3
    counts = [len(times) for times in ward.began.values()]
    assert len(counts) == 10
    assert max(counts) - min(counts) <= 2
    assert max(gaps(ward.began["well"])) <= PLAN.interval_s + plan_turn_s
    assert set(ward.verdicts("well")) == {PASS}


# ---- void ----------------------------------------------------------------------------------------


async def test_a_probe_that_crashes_is_void_and_says_why(autojump_clock: MockClock) -> None:
    async def crash() -> Verdict:
        await trio.sleep(0.1)
        raise ValueError("no such thing")

    ward = Ward()
    ward.watch("a", crash)
    ward.watch("b", answers(PASS))
    await ward.run_for(25.0)
    assert ward.verdicts("a") == [
        Verdict(Outcome.VOID, "the probe crashed: ValueError: no such thing")
    ] * len(ward.told["a"])
    assert len(ward.told["a"]) == len(ward.told["b"]) == 3


async def jumped(see: Callable[[], Awaitable[Verdict]], *, before_s: float) -> list[Verdict]:
    """The verdicts of a run in which our own loop is away for a second during the first probe."""
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, MockClock)
    ward = Ward()
    ward.watch("a", see)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ward.monitor.run)
        await ward.first_began.wait()
        await trio.sleep(before_s)
        clock.jump(1.0)  # as if a long computation had held the loop
        await trio.sleep(PLAN.interval_s - 2.0)
        nursery.cancel_scope.cancel()
    return ward.verdicts("a")


async def test_a_failure_is_void_when_our_own_loop_was_late(autojump_clock: MockClock) -> None:
    [verdict] = await jumped(never, before_s=0.3)
    assert verdict.says_nothing
    assert verdict.reason.startswith("our own loop was ")
    assert verdict.reason.endswith(" s late: no answer in 2 s")
    [verdict] = await jumped(answers(FAIL, after_s=0.5), before_s=0.3)
    assert verdict.says_nothing


async def test_a_failure_after_the_loop_has_recovered_counts(autojump_clock: MockClock) -> None:
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, MockClock)
    ward = Ward()
    ward.watch("a", never)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ward.monitor.run)
        await trio.sleep(4.0)
        clock.jump(1.0)  # between two probes
        await trio.sleep(10.0)
        nursery.cancel_scope.cancel()
    assert ward.verdicts("a") == [UNANSWERED, UNANSWERED]


async def test_a_pass_counts_however_late_our_loop_was(autojump_clock: MockClock) -> None:
    assert await jumped(answers(PASS, after_s=0.5), before_s=0.3) == [PASS]


async def test_an_idle_monitor_wakes_up_for_nothing_but_probes() -> None:
    """No ticker runs while no probe does, so minutes of virtual time cost nothing."""
    clock = MockClock(autojump_threshold=0)
    steps = 0

    class Count(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            nonlocal steps
            steps += 1

    async def hour() -> None:
        ward = Ward()
        ward.watch("a", answers(PASS))
        await ward.run_for(3600.0)
        assert len(ward.told["a"]) == 360

    await trio.to_thread.run_sync(lambda: trio.run(hour, clock=clock, instruments=[Count()]))
    assert steps < 360 * 12


# ---- coming and going ----------------------------------------------------------------------------


async def test_forgetting_during_a_probe_drops_its_verdict(autojump_clock: MockClock) -> None:
    ward = Ward()
    ward.watch("a", answers(PASS, after_s=1.0))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ward.monitor.run)
        await trio.sleep(0.5)
        assert ward.running == 1
        ward.monitor.forget("a")
        ward.monitor.forget("a")
        await trio.testing.wait_all_tasks_blocked()
        assert ward.running == 0
        await trio.sleep(60.0)
        nursery.cancel_scope.cancel()
    assert ward.told["a"] == []


async def test_forgetting_in_the_moment_of_the_answer_drops_it(autojump_clock: MockClock) -> None:
    ward = Ward()

    async def last_words() -> Verdict:
        ward.monitor.forget("a")
        return PASS

    ward.watch("a", last_words)
    await ward.run_for(30.0)
    assert ward.told["a"] == []
    assert len(ward.began["a"]) == 1


async def test_a_listener_may_forget_and_watch_again(autojump_clock: MockClock) -> None:
    seen: list[str] = []

    def on_verdict(target: str, verdict: Verdict) -> None:
        seen.append(verdict.reason)
        if verdict == FAIL:
            monitor.watch(target, PLAN, answers(PASS))

    monitor = Monitor(on_verdict=on_verdict, pace=lambda _: Pace.STEADY, rng=Random(1))
    monitor.watch("a", PLAN, answers(FAIL))
    with trio.move_on_after(15.0):
        await monitor.run()
    assert seen == ["connect refused", "status 200", "status 200"]


async def test_watching_again_replaces_plan_and_probe(autojump_clock: MockClock) -> None:
    ward = Ward()
    ward.watch("a", never)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ward.monitor.run)
        await trio.sleep(0.5)
        ward.watch("a", answers(PASS))
        await trio.sleep(15.0)
        nursery.cancel_scope.cancel()
    assert ward.verdicts("a") == [PASS, PASS]


async def test_cancellation_leaves_no_task_and_no_slot_taken(autojump_clock: MockClock) -> None:
    ward = Ward(max_concurrent=1)
    ward.watch("a", never)
    ward.watch("b", never)
    before = trio.lowlevel.current_statistics().tasks_living
    await ward.run_for(1.0)
    assert ward.running == 0
    assert trio.lowlevel.current_statistics().tasks_living == before
    assert ward.told == {}
    await ward.run_for(60.0)  # and it can be run again
    assert ward.told["a"]
    assert ward.told["b"]
