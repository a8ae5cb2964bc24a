"""The whole balancer on the in-memory network: the real instance, with its surroundings virtual.

Nothing in here waits on a thread, a file or a name server: state is kept in memory, lines too, and
wall time is virtual time since a fixed morning.
"""

import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from balancer.config.load import ParsedConfig, read_text, without_file
from balancer.config.settings import Settings
from balancer.rehearsal.memory_files import MemoryFiles
from balancer.rehearsal.memory_network import HostNetwork, MemoryNetwork
from balancer.rehearsal.virtual_crew import VirtualCrew
from balancer.supervisor.certificates import Source
from balancer.supervisor.instance import Instance
from balancer.supervisor.state_file import MemoryStateStore, StateStore
from balancer.supervisor.surroundings import Surroundings
from balancer.telemetry.record import ExchangeRecord
from balancer.wire.network import Sock
from balancer.worker.messages import LogPlan
from balancer.worker.worker import Worker

# 2026-01-01T00:00:00Z: where the wall clock of every rehearsal starts.
MORNING = 1_767_225_600.0
ADMIN_SOCKET = "/run/balancer/admin.sock"
NO_LOG = LogPlan("off", access_json=True, json=True, colours=False, level="info")


@dataclass(slots=True, kw_only=True)
class Stage:
    """A running instance, and all that it noted."""

    network: MemoryNetwork
    store: StateStore
    crew: VirtualCrew
    config: str | Settings
    access: list[ExchangeRecord] = field(default_factory=list)
    instance: Instance = field(init=False)

    @property
    def worker(self) -> Worker:
        """The worker that was started last."""
        worker = self.crew.processes[-1].link.worker
        assert worker is not None, "it has no plan yet"
        return worker

    def parsed(self) -> ParsedConfig:
        """What `config` means now; a test may change it before a reload."""
        if isinstance(self.config, Settings):
            return without_file(self.config, "stage.toml")
        return read_text(self.config, "stage.toml", {})

    async def load(self) -> ParsedConfig:
        await trio.lowlevel.checkpoint()
        return self.parsed()

    def sentences(self) -> list[str]:
        """The events so far, each with its virtual time."""
        _, events = self.instance.events.since(0)
        return [f"{event.at} {event.sentence}" for event in events]


@asynccontextmanager
async def staged(
    config: str | Settings,
    network: MemoryNetwork,
    *,
    seed: int,
    host: str = "127.0.0.1",
    store: StateStore | None = None,
    files: MemoryFiles | None = None,
) -> AsyncIterator[Stage]:
    """Run an instance on `host` while the block runs; entered when it accepts clients.

    At the end of the block it is stopped, gracefully, unless the block has stopped it already.
    """
    view = network if host == "127.0.0.1" else network.as_seen_from(host)
    store = store or MemoryStateStore()
    files = files or MemoryFiles()
    access: list[ExchangeRecord] = []
    with view.install_for_trio():
        async with trio.open_nursery() as nursery:
            crew = VirtualCrew(view, nursery, access, wall=_wall, seed=seed)
            stage = Stage(network=network, store=store, crew=crew, config=config, access=access)
            settings = stage.parsed().settings
            stage.instance = instance = Instance(
                settings,
                Surroundings(
                    name=f"stage-{host}",
                    network=view,
                    store=store,
                    crew=crew,
                    log=lambda _: NO_LOG,
                    wall=_wall,
                    rng=random.Random(seed),
                    source="stage.toml",
                    load=stage.load,
                    admin_listener=_admin_listener(view),
                    certificates=Source(files.load_now(settings), files),
                ),
            )
            nursery.start_soon(instance.run)
            await instance.accepting.wait()
            yield stage
            instance.stop(now=False)


def _wall() -> float:
    return MORNING + trio.current_time()


def _admin_listener(network: HostNetwork) -> Sock:
    sock = network.socket(socket.AF_UNIX)
    sock.bind(ADMIN_SOCKET)
    sock.listen(16)
    return sock
