"""One reload: read, check, look at what is new, save, switch, tell; or nothing at all.

Decides the order, and that whatever fails before the switch leaves everything as it was. Between
the save and the end of the switch nothing can fail and nobody else gets a turn.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import trio

from balancer.admin.control import Done, HandedOver, NotApplied
from balancer.config.errors import ConfigErrors
from balancer.config.load import ParsedConfig
from balancer.config.settings import Settings
from balancer.core.ledger import Ledger, Refused
from balancer.supervisor.certificate_files import CertificatesUnusable, Loaded
from balancer.supervisor.certificates import Certificates
from balancer.supervisor.changes import backend_change
from balancer.supervisor.events import EventKind, EventLog
from balancer.supervisor.listeners import CannotListen
from balancer.supervisor.orders import Orders
from balancer.supervisor.places import NoPlace
from balancer.supervisor.pools import Pools
from balancer.supervisor.reload_plan import CannotReload, ReloadPlan, plan_reload
from balancer.telemetry.logs import get_logger

# A file on a disk that hangs is not waited for any longer.
LOAD_S_MAX = 10.0
# So many errors of a file are told in an event; the caller is told all.
ERRORS_TOLD = 3

Load = Callable[[], Awaitable[ParsedConfig]]
"""Reads and checks the file; raises ConfigErrors, or NoPlace for a path in it that cannot be used."""


class Serving(Protocol):
    """Listeners, their certificates, and workers, as a reload needs them."""

    @property
    def certificates(self) -> Certificates: ...

    def opening(self, plan: ReloadPlan) -> AbstractContextManager[None]:
        """Open what the plan adds; at the end of the block, close again what is not in use.

        Raises CannotListen.
        """
        ...

    def switch(self, settings: Settings) -> None:
        """Tell every worker everything anew; without waiting."""
        ...

    async def switched(self) -> tuple[str, ...]:
        """Close what is gone when it is used no more; the workers that have not confirmed in time."""
        ...


class Reloading:
    """One at a time. `load` reads the configuration that `source` names; None: there is no file."""

    def __init__(
        self,
        settings: Settings,
        *,
        source: str,
        load: Load | None,
        pools: Pools,
        orders: Orders,
        serving: Serving,
        events: EventLog,
        stopping: trio.Event,
    ) -> None:
        self.settings = settings
        self._source = Path(source).name
        self._load = load
        self._pools = pools
        self._orders = orders
        self._serving = serving
        self._certificates = serving.certificates
        self._events = events
        self._stopping = stopping
        # An upgrade takes it as well: no two of either kind at a time.
        self.one_at_a_time = trio.Lock()
        self._log = get_logger()

    async def reload(self) -> Done:
        """Go by the file as it is now; `Done.message` says what changed.

        Refused: the file is wrong, each error in a line of its own. NotApplied: it could not be
        carried out. Either way nothing has changed.
        """
        async with self.one_at_a_time:
            if self._orders.passed_on:
                raise HandedOver
            try:
                return await self._reload()
            except (Refused, NotApplied) as exc:
                self._tell_failed(str(exc))
                raise

    async def _reload(self) -> Done:
        config = await self._loaded()
        settings, certificates = config.settings, await self._certificates_of(config)
        with self._explained():
            plan = plan_reload(self.settings, self._orders.ledger, settings)
            before = self._certificates.loaded
            renewed = certificates.content != before.content
            if not plan.changes and not renewed:
                return Done(changed=False, message=f"{self._source}: nothing changed")
            # Else only what is done with them has changed, and the plan tells of that.
            renewed = renewed and (certificates.stamps != before.stamps or not plan.changes)
            self._pools.know(certificates.backends)
            with self._serving.opening(plan), self._pools.joining(settings, plan.ledger):
                await self._until_known(settings.start_timeout)
                plan = await self._switch(settings, certificates)
        laggards = await self._serving.switched()
        for bind in plan.opened:
            self._events.add(EventKind.LISTENER_OPEN, cause=f"listening on {bind}")
        for bind in plan.closed:
            self._events.add(EventKind.LISTENER_CLOSED, cause=f"no longer listening on {bind}")
        done = Done(changed=True, message=self._in_words(plan, renewed), laggards=laggards)
        effect = f"not confirmed yet by {', '.join(laggards)}" if laggards else None
        self._events.add(EventKind.INSTANCE_RELOADED, cause=done.message, effect=effect)
        return done

    async def _loaded(self) -> ParsedConfig:
        if self._load is None:
            raise Refused("there is no file to reload: this instance was started without one")
        try:
            with trio.fail_after(LOAD_S_MAX):
                return await self._load()
        except ConfigErrors as errors:
            raise self._not_valid(errors) from errors
        except NoPlace as exc:
            raise Refused(f"{exc}; nothing was changed") from exc
        except trio.TooSlowError as exc:
            slow = f"{self._source} could not be read within {LOAD_S_MAX:g} s"
            raise NotApplied(f"{slow}; nothing was changed") from exc

    async def _certificates_of(self, config: ParsedConfig) -> Loaded:
        try:
            return await self._certificates.load(config.settings)
        except CertificatesUnusable as exc:
            raise self._not_valid(exc.in_lines_of(config)) from exc
        except trio.TooSlowError as exc:
            raise NotApplied(
                "the certificates could not be read in time; nothing was changed"
            ) from exc

    def _not_valid(self, errors: ConfigErrors) -> Refused:
        return Refused(f"{self._source} is not valid; nothing was changed\n{errors}")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """What cannot be, in the words of the API."""
        try:
            yield
        except CannotReload as exc:
            raise Refused(f"{self._source}: nothing was changed\n{exc}") from exc
        except CannotListen as exc:
            raise NotApplied(f"{exc}; nothing was changed") from exc

    async def _until_known(self, limit_s: float) -> None:
        """Wait until the switch leaves no pool with less than it has, or for `limit_s`."""
        with trio.move_on_after(limit_s):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._give_up_waiting, nursery.cancel_scope)
                await self._pools.wait_for_joining()
                nursery.cancel_scope.cancel()
        if self._stopping.is_set():
            raise NotApplied("the instance is stopping; nothing was changed")

    async def _give_up_waiting(self, scope: trio.CancelScope) -> None:
        await self._stopping.wait()
        scope.cancel()

    async def _switch(self, settings: Settings, certificates: Loaded) -> ReloadPlan:
        """Save, and then go by it in one step; what orders have changed meanwhile is in it."""
        plans: list[ReloadPlan] = []

        def ledger_from(ledger: Ledger) -> Ledger:
            plans.append(plan_reload(self.settings, ledger, settings))
            return plans[-1].ledger

        def obey() -> None:
            self._tell(plans[-1])
            self.settings = settings
            self._pools.switch(settings, plans[-1].ledger)
            self._certificates.use(settings, certificates)
            self._serving.switch(settings)

        await self._orders.replace(ledger_from, obey)
        return plans[-1]

    def _tell(self, plan: ReloadPlan) -> None:
        """What changes, before what follows from it."""
        for note in plan.ledger.notes:
            self._log.warning("order.overruled", because=note)
        for name in plan.gone_pools:
            self._events.add(EventKind.POOL_REMOVED, pool=name, cause=f"not in {self._source}")
        for name in plan.new_pools:
            self._events.add(EventKind.POOL_ADDED, pool=name, cause=f"new in {self._source}")
        for pool in plan.pools:
            if pool.settings:
                cause = f"{', '.join(pool.settings)} changed in {self._source}"
                self._events.add(EventKind.POOL_CHANGED, pool=pool.name, cause=cause)
            steps = [(None, entry) for entry in pool.added], [(e, None) for e in pool.removed]
            for before, after in [*steps[0], *steps[1], *pool.altered]:
                known = before or after
                assert known is not None
                kind, cause, effect = backend_change(before, after, by=self._source)
                self._events.add(
                    kind, pool=pool.name, backend=known.address, cause=cause, effect=effect
                )

    def _in_words(self, plan: ReloadPlan, renewed: bool) -> str:
        """What was done, and which of the pools that changed is not well now."""
        changed = [*plan.new_pools, *(pool.name for pool in plan.pools)]
        unwell = [
            f"pool {name}: {book.snapshot.summary}"
            for name in changed
            if (book := self._pools.books[name]).snapshot.pending or not book.snapshot.available
        ]
        what = [plan.in_words] * plan.changes + ["certificates loaded anew"] * renewed
        return "; ".join([f"reloaded {self._source}: {', '.join(what)}", *unwell])

    def _tell_failed(self, why: str) -> None:
        lines = why.splitlines()
        more = len(lines) - 1 - ERRORS_TOLD
        told = [*lines[: ERRORS_TOLD + 1], *([f"and {more} more"] if more > 0 else [])]
        self._events.add(EventKind.RELOAD_FAILED, cause="; ".join(told))
