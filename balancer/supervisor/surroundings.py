"""What an instance takes from outside: the seam between a process and a rehearsal."""

import os
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from balancer.config.settings import Settings
from balancer.supervisor.certificates import Source
from balancer.supervisor.crew import Crew
from balancer.supervisor.heritage import Heritage
from balancer.supervisor.notify import Notifier
from balancer.supervisor.reloading import Load
from balancer.supervisor.rows import Elder
from balancer.supervisor.state_file import StateStore
from balancer.supervisor.succession import Outside
from balancer.supervisor.takeover import Adopted
from balancer.wire.network import Network, Sock
from balancer.worker.messages import LogPlan, SocketKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What an instance takes from outside, so that a rehearsal can give it all virtual.

    `wall`: seconds since 1970. `processors`: how many workers `auto` is. `admin_listener`: None
    serves no admin socket. `load` reads `source`, the configuration, again; None: it is no file.
    `sockets`, `adopted` and `heritage`: what was there before us; `strays`: workers of before, by
    their row of the board, that are not ours and are about to end.
    `outside`: what a successor is handed beside the rest; None: there can be none.
    """

    name: str
    network: Network
    store: StateStore
    crew: Crew
    log: Callable[[Settings], LogPlan]
    wall: Callable[[], float]
    rng: random.Random
    source: str = ""
    load: Load | None = None
    processors: int = 1
    admin_listener: Sock | None = None
    sockets: Mapping[SocketKey, Sock] = field(default_factory=dict)
    adopted: Sequence[Adopted] = ()
    strays: Mapping[int, Elder] = field(default_factory=dict)
    outside: Outside | None = None
    heritage: Heritage | None = None
    certificates: Source = field(default_factory=Source)
    notifier: Notifier = field(default_factory=lambda: Notifier({}, pid=os.getpid()))
