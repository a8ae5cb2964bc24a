"""Runs probes on time and tells their verdicts.

One task for each target, so that one that never answers delays nobody. Decides only what a probe
cannot know: that its time is over (FAIL), that it crashed, or that our own loop was late (VOID).
What a verdict means is for whoever listens.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

import trio

from healthcheck.core.loop_lag import LoopLag
from healthcheck.core.schedule import Pace, ProbePlan, first_due, next_due
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
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


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
        self._slots = trio.Semaphore(max_concurrent)  # first come, first served
        self._running = 0
        self._ticking = trio.Event()
        self._watches: dict[str, _Watch] = {}
        self._nursery: trio.Nursery | None = None

    async def run(self) -> None:
        """Probe what is watched, until cancelled; then no task and no socket is left."""
        assert self._nursery is None, "a monitor runs once at a time"
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for watch in self._watches.values():
                    watch.scope = trio.CancelScope()  # that of an earlier run is spent
                    nursery.start_soon(self._keep_probing, watch)
                await self._tick_while_probing()
        finally:
            self._nursery = None

    def watch(self, target: str, plan: ProbePlan, probe: Probe) -> None:
        """Probe `target` from soon on, instead of what was watched under that name before."""
        self.forget(target)
        due = first_due(plan, now=trio.current_time(), watched=len(self._watches), rng=self._rng)
        watch = self._watches[target] = _Watch(target, plan, probe, due)
        if self._nursery is not None:
            self._nursery.start_soon(self._keep_probing, watch)

    def forget(self, target: str) -> None:
        """No verdict of `target` is told from now on, not even of a probe that runs."""
        watch = self._watches.pop(target, None)
        if watch is not None:
            watch.scope.cancel()

    async def _keep_probing(self, watch: _Watch) -> None:
        with watch.scope:
            while True:
                await trio.sleep_until(watch.due)
                async with self._slots:
                    verdict = await self._probe(watch)
                assert verdict.began is not None
                if self._watches.get(watch.target) is not watch:
                    return  # forgotten while it ended
                self._on_verdict(watch.target, verdict)
                watch.due = next_due(
                    watch.plan,
                    self._pace(watch.target),
                    began=verdict.began,
                    now=trio.current_time(),
                    rng=self._rng,
                )

    async def _probe(self, watch: _Watch) -> Verdict:
        """One probe within its time, as a verdict whatever happens."""
        began = trio.current_time()
        self._lag.expect(began)
        self._running += 1
        self._ticking.set()
        try:
            verdict = await _within(watch.plan.timeout_s, watch.probe)
        finally:
            self._running -= 1
        verdict = self._lag.excuse(verdict, began=began, now=trio.current_time())
        return replace(verdict, began=began)

    async def _tick_while_probing(self) -> None:
        while True:
            await self._ticking.wait()
            await trio.sleep_until(self._lag.expect(trio.current_time()))
            self._lag.tick(trio.current_time())
            if not self._running:
                self._ticking = trio.Event()


async def _within(timeout_s: float, probe: Probe) -> Verdict:
    with trio.move_on_after(timeout_s):
        try:
            return await probe()
        except Exception as error:  # noqa: BLE001  # a crash of one probe is its own affair
            return Verdict(Outcome.VOID, f"the probe crashed: {type(error).__name__}: {error}")
    return Verdict(Outcome.FAIL, f"no answer in {seconds(timeout_s)}")
