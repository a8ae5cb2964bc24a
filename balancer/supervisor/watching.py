"""Which backends are probed, and by which settings; the verdicts go to whoever keeps the books.

Decides nothing: it keeps the monitor in step with what is wanted. A backend that is probed as
wanted already is left alone, so its pace and a probe under way go on.
"""

import random
from collections.abc import Callable, Mapping

from balancer.core.backend import BackendId
from balancer.supervisor.probes import Checks, plan_of, probe_of
from healthcheck.core.verdict import Verdict
from healthcheck.monitor import Monitor, Pace


class Watching:
    """The monitor's only user. `verdict` and `pace` are asked about backends that are watched."""

    def __init__(
        self,
        *,
        verdict: Callable[[BackendId, Verdict], None],
        pace: Callable[[BackendId], Pace],
        rng: random.Random,
    ) -> None:
        self.monitor = Monitor(on_verdict=self._on_verdict, pace=self._pace_of, rng=rng)
        self._verdict = verdict
        self._pace = pace
        self._watched: dict[str, tuple[BackendId, Checks]] = {}

    def watch(self, pool: str, wanted: Mapping[str, Checks]) -> None:
        """Probe these addresses of the pool so, and nothing else of it."""
        backends = {address: BackendId(pool, address) for address in wanted}
        keys = {f"{pool} {address}": address for address in wanted}
        there = [key for key, (backend, _) in self._watched.items() if backend.pool == pool]
        for key in there:
            if key not in keys:
                del self._watched[key]
                self.monitor.forget(key)
        for key, address in keys.items():
            watched = backends[address], wanted[address]
            if self._watched.get(key) != watched:
                # What other settings asked for is no answer to these: a probe under way is dropped.
                self._watched[key] = watched
                checks = wanted[address]
                self.monitor.watch(key, plan_of(checks.health), probe_of(checks, address))

    def _on_verdict(self, key: str, verdict: Verdict) -> None:
        watched = self._watched.get(key)
        if watched is not None:
            self._verdict(watched[0], verdict)

    def _pace_of(self, key: str) -> Pace:
        return self._pace(self._watched[key][0])
