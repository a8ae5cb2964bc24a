"""A scene: a whole balancer on the in-memory network in front of scripted backends."""

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio
import trio.testing

from balancer.rehearsal.memory_files import MemoryFiles
from balancer.rehearsal.memory_network import MemoryNetwork
from balancer.rehearsal.stage import Stage, staged
from balancer.supervisor.state_file import StateStore
from tests.support.edge_client import EdgeClient
from tests.support.virtual_backend import Script, VirtualBackend

ADDRESSES = {name: f"10.0.0.{number}:80" for number, name in enumerate("abcdefgh", start=1)}


@dataclass(slots=True)
class Scene:
    """What a test has in its hands."""

    stage: Stage
    network: MemoryNetwork
    backends: dict[str, VirtualBackend]
    nursery: trio.Nursery

    async def client(self) -> EdgeClient:
        return await EdgeClient.connect(self.network)

    async def settled(self) -> None:
        """Return when every task of the scene waits: what was under way is done and noted."""
        await trio.testing.wait_all_tasks_blocked()

    def attempts(self, exchange: int = -1) -> list[str]:
        """The attempts of one exchange as `a status 200`, by the names of the backends."""
        names = {address: name for name, address in ADDRESSES.items()}
        return [
            f"{names[attempt.backend]} {attempt.outcome}"
            for attempt in self.stage.access[exchange].attempts
        ]

    def backend_status(self, name: str) -> Mapping[str, object]:
        status = self.stage.instance.desk.status("web")
        pools = status["pools"]
        assert isinstance(pools, dict)
        return next(row for row in pools["web"]["backends"] if row["address"] == ADDRESSES[name])

    def at_rest(self) -> bool:
        """Whether nothing is counted in flight and no exchange is running."""
        board = self.stage.crew.board
        links = [process.link for process in self.stage.crew.processes]
        running = [link.worker.service.running for link in links if link.worker is not None]
        counts = board.counts(range(board.cells - 1))
        return not any(count.in_flight for count in counts) and not any(running)


def config_for(names: str, *, pool: str = "", top: str = "", listener: str = "") -> str:
    """A config with one pool of these backends; `pool` and `top` are more lines of TOML."""
    backends = ", ".join(f'"{ADDRESSES[name]}"' for name in names)
    return f"""
{top}
[[listeners]]
bind = "127.0.0.1:8080"
{listener}
[admin]
socket = "/run/balancer/admin.sock"
state = ""
[pools.web]
backends = [{backends}]
{pool}
"""


@asynccontextmanager
async def scene(
    scripts: Mapping[str, Script],
    *,
    pool: str = "",
    top: str = "",
    listener: str = "",
    seed: int = 1,
    store: StateStore | None = None,
    latency_s: float = 0.0,
    greeted: bool = False,
    tls: ssl.SSLContext | None = None,
    files: MemoryFiles | None = None,
) -> AsyncIterator[Scene]:
    """Backends a, b, … with their scripts, and a balancer in front of them that accepts clients.

    `greeted`: connections to the backends begin with a PROXY header. `tls`: they speak it by this.
    """
    network = MemoryNetwork(seed=seed, latency_s=latency_s)
    backends = {
        name: VirtualBackend(network, ADDRESSES[name], script, greeted=greeted, tls=tls)
        for name, script in scripts.items()
    }
    async with trio.open_nursery() as nursery:
        for backend in backends.values():
            await nursery.start(backend.run)
        config = config_for("".join(scripts), pool=pool, top=top, listener=listener)
        async with staged(config, network, seed=seed, store=store, files=files) as stage:
            yield Scene(stage, network, backends, nursery)
        nursery.cancel_scope.cancel()
