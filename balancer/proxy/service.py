"""What every exchange of a worker shares: made once, handed down, replaced by nobody."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from balancer.core.backend import BackendId, BackendView
from balancer.core.client_limits import NO_LIMIT, ClientLimits
from balancer.core.field_names import FieldRules
from balancer.core.routes import RouteTable
from balancer.core.tunnels import Leave
from balancer.proxy.faults import Stopped
from balancer.proxy.idle import IdleConnections
from balancer.proxy.pool import Pool
from balancer.proxy.resting import RestingClients
from balancer.proxy.room import Room
from balancer.telemetry.record import ExchangeRecord
from balancer.wire.dial import Target
from balancer.wire.lane import Lane
from balancer.wire.network import Network
from balancer.wire.tls_contexts import Terminator, TlsRules
from balancer.wire.waiting import Timekeeper

# To draw and write many request ids in one go costs a tenth of as many single ones.
IDS_AT_ONCE = 256


class Running(Protocol):
    """What a worker may ask of an exchange that is under way."""

    @property
    def record(self) -> ExchangeRecord: ...
    @property
    def backend(self) -> BackendView | None: ...
    def interrupt(self, stopped: Stopped) -> None: ...
    def notice_leaving(self, since: float) -> None: ...
    @property
    def protocol(self) -> str: ...


class OpenTunnel(Protocol):
    """What a worker tells a tunnel."""

    def review(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerRules:
    """How connections of one listener are taken; a connection keeps those that it came under.

    `proxy_protocol`: each begins with a PROXY header, from one of the networks in
    `proxy_protocol_from`. `connections_max`: of one worker. `tls`: TLS comes next. `https_port`: requests are sent there, and nowhere
    else. `hsts`: the value of the field that tells browsers to use https alone.
    """

    bind: str
    connections_max: int = NO_LIMIT
    proxy_protocol: bool = False
    proxy_protocol_from: tuple[str, ...] = ()
    tls: TlsRules | None = None
    https_port: int | None = None
    hsts: bytes = b""

    @property
    def scheme(self) -> bytes:
        return b"http" if self.tls is None else b"https"

    @property
    def prelude(self) -> bool:
        """Whether something comes before HTTP does, which takes a task of its own."""
        return self.proxy_protocol or self.tls is not None

    @property
    def vouched(self) -> tuple[str, bytes] | None:
        """Which certificates of clients are asked for, and who vouches for them."""
        if self.tls is None or self.tls.client_auth == "off":
            return None
        return self.tls.client_auth, self.tls.client_ca


@dataclass(slots=True, kw_only=True)
class Service:
    """The collaborators of the data path of one worker."""

    network: Network
    timekeeper: Timekeeper
    limits: ClientLimits
    listeners: dict[str, ListenerRules]
    routes: RouteTable
    pools: dict[str, Pool]
    trusts: Callable[[str], bool]
    fields: FieldRules
    targets: Callable[[BackendId], tuple[Target, ...]]
    access: Callable[[ExchangeRecord], None]
    crashed: Callable[[str, Exception], None]
    turned_away: Callable[[str, str, str], None]
    """Told of a connection that is closed before HTTP: listener, client, and why."""
    http_date: Callable[[], bytes]
    rng: random.Random
    terminators: dict[str, Terminator] = field(default_factory=dict)
    idle: IdleConnections = field(default_factory=IdleConnections)
    running: dict[int, Running] = field(default_factory=dict)
    resting: RestingClients = field(default_factory=RestingClients)
    tunnels: dict[int, OpenTunnel] = field(default_factory=dict)
    draining: bool = False
    leave: Leave | None = None  # the drain's time
    exchanges: int = 0
    room: Room = field(init=False)
    lane: Lane = field(init=False)
    _ids: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lane = Lane(self.network)
        self.room = Room(self.resting.dismiss, self.idle.release)

    @property
    def connections(self) -> int:
        """Clients that are connected."""
        return self.room.count

    def listen_by(self, listeners: dict[str, ListenerRules]) -> None:
        """Go by these; where other certificates let clients in, whoever is in leaves.

        Who rests leaves at once, all others behind their answer.
        """
        for bind, rules in listeners.items():
            before = self.listeners.get(bind)
            if before is not None and before.vouched != rules.vouched:
                door = self.room.door(bind)
                door.era += 1
                self.resting.dismiss_all(door)
        self.listeners = listeners

    def review_tunnels(self) -> None:
        """Somebody leaves, or no longer does."""
        for tunnel in self.tunnels.values():
            tunnel.review()

    def new_request_id(self) -> bytes:
        """128 random bits; unique enough to find one exchange in a year of logs."""
        if not self._ids:
            drawn = self.rng.randbytes(IDS_AT_ONCE * 16).hex().encode("ascii")
            self._ids = [drawn[at : at + 32] for at in range(0, len(drawn), 32)]
        return self._ids.pop()
