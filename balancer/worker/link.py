"""A worker's link to its supervisor: dials it, says who it is, obeys, reports, and dials again.

Without a supervisor a worker serves on with what it knows, for as long as its plan allows; whoever
takes over is handed the listening sockets and the board. It decides nothing about pools.
"""

from contextlib import suppress

import trio

from balancer.core.backend import BackendId
from balancer.core.board import CONNECTIONS_AT, EXCHANGES_AT, SHED_AT, TURNED_AWAY_AT
from balancer.telemetry.logs import get_logger
from balancer.worker.channel import DESCRIPTORS_MAX, Channel, ChannelClosed
from balancer.worker.messages import (
    Applied,
    Drained,
    Hello,
    Leaving,
    Memory,
    Reported,
    Running,
    Sockets,
)
from balancer.worker.obeying import Obeying
from balancer.worker.surroundings import Surroundings
from balancer.worker.worker import Worker
from healthcheck.core.verdict import Evidence

# A supervisor that was killed and started again is missed for no longer than this.
REDIAL_S = 0.1
# The watchdog looks at the board this often for a sign of life, so to speak.
BEAT_S = 0.5
# A worker that was never told anything, by whoever is there, is of no use to anybody.
UNPLANNED_S = 15.0


class Link:
    """Keeps one worker in touch; `run` serves until the worker has drained."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._log = get_logger()
        self._obeying = Obeying(around, self._report)
        self._channel: Channel | None = None
        self._gives_up = False

    @property
    def worker(self) -> Worker | None:
        """What serves; None before the first plan."""
        return self._obeying.worker

    async def run(self) -> None:
        """Serve until drained, or until nobody has told us anything for too long."""
        try:
            async with trio.open_nursery() as tasks:
                tasks.start_soon(self._stay_in_touch)
                with trio.move_on_after(UNPLANNED_S):
                    await self._obeying.ready.wait()
                if self.worker is not None:
                    tasks.start_soon(self._beat)
                    self._say(Drained(await self.worker.serve()))
                tasks.cancel_scope.cancel()
        finally:
            self._obeying.close()

    def leave(self) -> None:
        """Drain within the shutdown time and end, as somebody else has asked us to."""
        plan = self._obeying.plan
        self._say(Leaving())
        self._obeying.drain(0.0 if plan is None else plan.shutdown_s)

    async def _stay_in_touch(self) -> None:
        alone_since = trio.current_time()
        while True:
            heard = False
            with suppress(OSError):
                heard = await self._talk(await self._dialled())
            if heard:
                alone_since = trio.current_time()
            else:
                self._mind_being_alone(trio.current_time() - alone_since)
            await trio.sleep(REDIAL_S)

    async def _dialled(self) -> Channel:
        """A channel to whoever is there. OSError; where nobody is, there is no plan to wait for."""
        try:
            return await self._around.dial()
        except BlockingIOError:  # more dial at once than its queue holds
            raise
        except OSError:
            self._obeying.ready.set()
            raise

    def _mind_being_alone(self, alone_s: float) -> None:
        """End in time where nobody else can have us end: at once where we serve nobody yet."""
        worker, plan = self.worker, self._obeying.plan
        if worker is None or plan is None or self._gives_up:
            return
        serves = worker.sockets.serves_clients or worker.service.draining
        if alone_s >= plan.orphan_s or not serves:
            self._gives_up = True
            self._log.error(
                "worker.leaves",
                slot=plan.slot,
                because=f"there has been no supervisor for {alone_s:.0f} s",
                effect="draining, then ending",
            )
            self._obeying.drain(plan.shutdown_s)

    async def _talk(self, channel: Channel) -> bool:
        """Talk until the channel closes; whether anything was said to us."""
        heard = False
        self._channel = channel
        try:
            async with trio.open_nursery() as talking:
                talking.start_soon(channel.run)
                self._greet(channel)
                try:
                    while True:
                        answer = self._obeying.obey(*await channel.receive())
                        heard = True
                        if answer is not None:
                            self._say(answer)
                except ChannelClosed as exc:
                    self._tell_orphaned(str(exc), heard=heard)
                talking.cancel_scope.cancel()
        finally:
            self._channel = None
            channel.close()
            if self.worker is not None:
                self.worker.sockets.accept_everywhere()
        return heard

    def _tell_orphaned(self, why: str, *, heard: bool) -> None:
        log = self._log.warning if heard else self._log.debug  # who says nothing, says it often
        effect = "serving on with what is known"
        log("worker.orphaned", slot=self._around.slot, because=why, effect=effect)

    def _greet(self, channel: Channel) -> None:
        """Say who we are, and hand over what a new supervisor must have to take over."""
        around, worker, plan = self._around, self.worker, self._obeying.plan
        if worker is not None:
            channel.send(Memory(), [self._obeying.memory])
            held = list(worker.sockets.held.items())
            for start in range(0, len(held), DESCRIPTORS_MAX):
                some = held[start : start + DESCRIPTORS_MAX]
                channel.send(Sockets(tuple(key for key, _ in some)), [sock for _, sock in some])
        row = None if plan is None else plan.row
        draining = worker is not None and worker.service.draining
        channel.send(Hello(around.slot, around.pid, row, draining))

    def _report(
        self, backend: BackendId, evidence: Evidence, reason: str, began: float, ejected: bool
    ) -> None:
        age_s = trio.current_time() - began
        self._say(Reported(backend, evidence, reason, age_s, ejected))

    def _say(self, message: Applied | Reported | Running | Leaving | Drained) -> None:
        if self._channel is not None:
            with suppress(OSError):
                self._channel.send(message)

    async def _beat(self) -> None:
        """Show on the board that this loop turns, and what it serves."""
        obeying = self._obeying
        assert obeying.board is not None
        assert obeying.plan is not None
        assert obeying.worker is not None
        row = obeying.board.row(obeying.plan.row)
        row.sign_on(self._around.pid)
        service = obeying.worker.service
        while True:
            row.beat()
            row.head[CONNECTIONS_AT] = service.connections
            row.head[EXCHANGES_AT] = service.exchanges
            row.head[TURNED_AWAY_AT] = obeying.worker.turned_away.count
            row.head[SHED_AT] = obeying.worker.admission.shed
            await trio.sleep(BEAT_S)
