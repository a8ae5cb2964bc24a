"""Runs probes on time and tells their verdicts.

One task for each probe that runs, so that one that never ends delays nobody. Decides only what a
probe cannot know: that its time is over (FAIL), that it crashed, or that our own loop was late (VOID).
What a verdict means is for whoever listens, and who is due when for the agenda.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import trio

from healthcheck.core.agenda import Agenda
from healthcheck.core.loop_lag import LoopLag
from healthcheck.core.schedule import Pace, ProbePlan, early_s, first_due, next_due
from healthcheck.core.verdict import Outcome, Verdict
from healthcheck.core.wording import seconds
from healthcheck.probing import Probe

__all__ = ["Monitor", "Pace", "ProbePlan"]

# Each probe holds a descriptor for as long as it runs, and only those that hang run for long.
CONCURRENT_MAX = 256
# Above the pauses of a garbage collection, far below any useful timeout.
LAG_LIMIT_S = 0.1


@dataclass(eq=False, slots=True)
class _Watch:
    target: str
    plan: ProbePlan
    probe: Probe
    due: float
    fresh: bool = True  # its first probe has not begun
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)  # of the probe under way


class Monitor:
    """Calls `on_verdict` once for each probe that ended, and then `pace` for when the next is due.

    Both are called between two awaits: what they do is done before any other verdict.
    """

    def __init__(
        self,
        *,
        on_verdict: Callable[[str, Verdict], None],
        pace: Callable[[str], Pace],
        rng: Random,
        lag_limit_s: float = LAG_LIMIT_S,
        max_concurrent: int = CONCURRENT_MAX,
    ) -> None:
        self._on_verdict = on_verdict
        self._pace = pace
        self._rng = rng
        self._lag = LoopLag(lag_limit_s)
        self._running = 0
        self._running_max = max_concurrent
        self._waiting: deque[_Watch] = deque()  # due, but too many run
        self._fresh = 0
        self._ticking = trio.Event()
        self._watches: dict[str, _Watch] = {}
        self._agenda = Agenda()
        self._waking = trio.CancelScope()
        self._nursery: trio.Nursery | None = None

    async def run(self) -> None:
        """Probe what is watched, until cancelled; then no task and no socket is left."""
        assert self._nursery is None, "a monitor runs once at a time"
        for watch in self._watches.values():
            self._agenda.put(watch.target, watch.due, early_s(watch.plan))
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._tick_while_probing)
                while True:
                    self._waiting.extend(map(self._watches.__getitem__, self._due_now()))
                    self._begin_waiting()
                    with trio.CancelScope(deadline=self._agenda.next_due()) as self._waking:
                        await trio.sleep_forever()
        finally:
            self._nursery = None
            self._waiting.clear()

    def watch(self, target: str, plan: ProbePlan, probe: Probe) -> None:
        """Probe `target` from soon on, instead of what was watched under that name before."""
        self.forget(target)
        due = first_due(plan, now=trio.current_time(), ahead=self._fresh)
        self._watches[target] = _Watch(target, plan, probe, due)
        self._fresh += 1
        if self._nursery is not None:
            self._agenda.put(target, due, early_s(plan))
            self._waking.deadline = min(self._waking.deadline, due)

    def forget(self, target: str) -> None:
        """No verdict of `target` is told from now on, not even of a probe that runs."""
        watch = self._watches.pop(target, None)
        if watch is not None:
            self._fresh -= watch.fresh
            self._agenda.drop(target)
            watch.scope.cancel()

    def _due_now(self) -> list[str]:
        return self._agenda.take_due(trio.current_time())

    def _begin_waiting(self) -> None:
        """Begin the probes that are due, first come, first served."""
        assert self._nursery is not None, "probes begin while the monitor runs"
        while self._waiting and self._running < self._running_max:
            watch = self._waiting.popleft()
            if self._watches.get(watch.target) is watch:
                self._fresh -= watch.fresh
                watch.fresh = False
                watch.scope = trio.CancelScope()
                self._running += 1
                self._nursery.start_soon(self._probe, watch)

    async def _probe(self, watch: _Watch) -> None:
        began = trio.current_time()
        self._lag.expect(began)
        self._ticking.set()
        try:
            found = await _within(watch, began)
        finally:
            self._running -= 1
        self._begin_waiting()
        if self._watches.get(watch.target) is not watch:
            return  # forgotten while it ended
        found = self._lag.excuse(found, began=began, now=trio.current_time())
        self._on_verdict(watch.target, Verdict(found.outcome, found.reason, began))
        if self._watches.get(watch.target) is watch:  # not forgotten on this news
            self._put_next(watch, began)

    def _put_next(self, watch: _Watch, began: float) -> None:
        pace, now = self._pace(watch.target), trio.current_time()
        watch.due = next_due(watch.plan, pace, began=began, now=now, rng=self._rng)
        self._agenda.put(watch.target, watch.due, early_s(watch.plan))
        self._waking.deadline = min(self._waking.deadline, watch.due)

    async def _tick_while_probing(self) -> None:
        while True:
            await self._ticking.wait()
            while self._ticking.is_set():  # no await between one tick and expecting the next
                await trio.sleep_until(self._lag.expect(trio.current_time()))
                self._lag.tick(trio.current_time())
                if not self._running:
                    self._ticking = trio.Event()


async def _within(watch: _Watch, began: float) -> Verdict:
    """What one probe found within its time, whatever happens."""
    watch.scope.deadline = began + watch.plan.timeout_s
    with watch.scope:
        try:
            return await watch.probe()
        except Exception as error:  # noqa: BLE001  # a crash of one probe is its own affair
            return Verdict(Outcome.VOID, f"the probe crashed: {type(error).__name__}: {error}")
    return Verdict(Outcome.FAIL, f"no answer in {seconds(watch.plan.timeout_s)}")
