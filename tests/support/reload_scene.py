"""What a reload decides about, without clients: pools that are probed, orders, and a file to load."""

import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import trio
import trio.testing

from balancer.config.load import ParsedConfig, load_text, read_text
from balancer.config.settings import Settings
from balancer.core.board import board_bytes, lay_out
from balancer.core.cells import Cells
from balancer.core.ledger import Ledger
from balancer.core.snapshot import PoolSnapshot
from balancer.rehearsal.memory_files import MemoryFiles
from balancer.rehearsal.memory_network import MemoryNetwork
from balancer.supervisor.certificates import Certificates, Source
from balancer.supervisor.events import EventLog
from balancer.supervisor.listeners import CannotListen
from balancer.supervisor.orders import Orders, overlay_of
from balancer.supervisor.pools import Pools
from balancer.supervisor.reload_plan import ReloadPlan, weights_of
from balancer.supervisor.reloading import Reloading
from balancer.supervisor.state_file import MemoryStateStore
from tests.support.virtual_backend import VirtualBackend, answers

ADDRESSES = {name: f"10.0.0.{number}:80" for number, name in enumerate("abcdefgh", start=1)}
HEALTH = 'path = "/health"\ninterval = "1s"\ntimeout = "500ms"\njitter = 0.0\n'


def config(
    backends: str,
    *,
    health: str | None = HEALTH,
    pool: str = "",
    more: str = "",
    top: str = "",
    bind: str = "127.0.0.1:8080",
) -> str:
    """A config with one pool `web` of the backends of these names; `a2` has weight 2."""
    listed = ", ".join(
        f'{{ address = "{ADDRESSES[word[0]]}", weight = {word[1:] or 1} }}'
        for word in backends.split()
    )
    checks = "" if health is None else f"[pools.web.health]\n{health}"
    return f"""
{top}
[[listeners]]
bind = "{bind}"
[admin]
socket = "/run/balancer/admin.sock"
state = ""
[pools.web]
backends = [{listed}]
{pool}
{checks}
{more}
"""


@dataclass(slots=True)
class FakeServing:
    """Listeners and workers that do as they are told, or cannot."""

    certificates: Certificates
    cannot_open: str = ""
    laggards: tuple[str, ...] = ()
    in_use: list[str] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)
    told: list[Settings] = field(default_factory=list)

    @contextmanager
    def opening(self, plan: ReloadPlan) -> Iterator[None]:
        if self.cannot_open:
            raise CannotListen(self.cannot_open)
        self.opened = [*plan.opened]
        try:
            yield
        finally:
            self.opened = [bind for bind in self.opened if bind in self.in_use]

    def switch(self, settings: Settings) -> None:
        self.told.append(settings)
        self.in_use = [listener.bind for listener in settings.listeners]

    async def switched(self) -> tuple[str, ...]:
        await trio.lowlevel.checkpoint()
        return self.laggards


class Ear:
    """Hears of snapshots as workers do."""

    def __init__(self) -> None:
        self.heard: list[PoolSnapshot] = []

    def apply(self, snapshot: PoolSnapshot) -> None:
        self.heard.append(snapshot)


@dataclass(slots=True)
class ReloadScene:
    """`text` is what the file says; None: there is no file."""

    network: MemoryNetwork
    nursery: trio.Nursery
    backends: dict[str, VirtualBackend]
    events: EventLog
    pools: Pools
    orders: Orders
    store: MemoryStateStore
    ear: Ear
    serving: FakeServing
    stopping: trio.Event
    text: str
    reloading: Reloading = field(init=False)

    async def backend(self, name: str, status: int = 200, after_s: float = 0.0) -> VirtualBackend:
        """Start one more backend."""
        there = VirtualBackend(self.network, ADDRESSES[name], answers(status, after_s=after_s))
        await self.nursery.start(there.run)
        self.backends[name] = there
        return there

    async def reload(self, text: str) -> str:
        """Change the file, and reload it; what is said of it."""
        self.text = text
        return (await self.reloading.reload()).message

    async def load(self) -> ParsedConfig:
        await trio.lowlevel.checkpoint()
        return read_text(self.text, "edge.toml", {})

    def candidates(self, pool: str = "web") -> str:
        """The names of those that take requests."""
        names = {address: name for name, address in ADDRESSES.items()}
        snapshot = self.pools.books[pool].snapshot
        return "".join(sorted(names[view.id.address] for view in snapshot.candidates))

    def probed(self) -> set[str]:
        """Who is probed within two seconds from now, as far as backends can tell."""
        return {name for name, backend in self.backends.items() if backend.requests}

    def sentences(self) -> list[str]:
        return [event.sentence for event in self.events.since(0)[1]]


@asynccontextmanager
async def reload_scene(
    backends: str, *, text: str | None = None, store: MemoryStateStore | None = None
) -> AsyncIterator[ReloadScene]:
    """The pool `web` with its backends up and probed; entered when all first verdicts are there."""
    text = config(backends) if text is None else text
    settings = load_text(text, "edge.toml", {})
    network = MemoryNetwork(seed=1)
    store = store or MemoryStateStore()
    with network.install_for_trio():
        events = EventLog(wall=trio.current_time)
        ledger = Ledger.of(weights_of(settings), overlay_of(store.load()))
        entries = {name: ledger.entries(name) for name in settings.pools}
        pools = Pools(
            settings, entries, {}, events=events, rng=random.Random(1), cells=small_cells()
        )
        orders = Orders(ledger, pools, store, events)
        async with trio.open_nursery() as nursery:
            scene = ReloadScene(
                network=network,
                nursery=nursery,
                backends={},
                events=events,
                pools=pools,
                orders=orders,
                store=store,
                ear=Ear(),
                serving=FakeServing(
                    certificates=Certificates(
                        settings, Source(files=MemoryFiles()), events, trio.current_time
                    ),
                    in_use=[each.bind for each in settings.listeners],
                ),
                stopping=trio.Event(),
                text=text,
            )
            scene.reloading = Reloading(
                settings,
                source="/etc/balancer/edge.toml",
                load=scene.load,
                pools=pools,
                orders=orders,
                serving=scene.serving,
                events=events,
                stopping=scene.stopping,
            )
            for word in backends.split():
                await scene.backend(word[0])
            pools.begin(scene.ear)
            nursery.start_soon(pools.monitor.run)
            nursery.start_soon(pools.keep_time)
            nursery.start_soon(orders.keep_saved)
            await trio.sleep(1.1)  # between two rounds of probes
            yield scene
            nursery.cancel_scope.cancel()


def small_cells() -> Cells:
    """Cells of a board for one worker."""
    return Cells(lay_out(bytearray(board_bytes(2, 512)), 2, 512))
