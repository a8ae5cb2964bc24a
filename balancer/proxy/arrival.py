"""How a client has come: at which listener, from where, and by what.

Decides nothing. What is known before the first byte stands here from the accept on; a listener that
wants something before HTTP begins (`ListenerRules.prelude`) has it completed from there.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from balancer.core.backend import BackendId
from balancer.core.message import RequestHead
from balancer.core.replies import MISDIRECTED, Reply, moved_to_https
from balancer.core.trust import UNIX
from balancer.proxy.service import ListenerRules
from balancer.wire.pacing import Paced
from balancer.wire.proxy_protocol import Ends, Own, Unnamed
from balancer.wire.strict_heads import forwarding_lines
from balancer.wire.tls_contexts import Terminator

# What a client is called of whom another proxy knows no address (RFC 7239 6.2).
UNKNOWN = "unknown"
# The name of an address that has none.
NOWHERE = "localhost"


@dataclass(slots=True)
class Arrival:
    """One connection of a client.

    `client` and `client_port` are where it comes from, `local` where it came to, as `host:port`.
    With TLS, `terminator` has agreed on keys by its certificate number `at`, in the version `tls`;
    `certificate` are the lines that tell of the client's own. `backends`: where connections have been made that are for this client
    alone. `taking`: how it takes what is sent to it, once it has kept us waiting. `counted_as`: the
    address it counts for. `era`: that of its listener's door in which it came in.
    """

    rules: ListenerRules
    client: str
    client_port: int
    local: str
    taking: Paced | None = None
    counted_as: str | None = None
    era: int = 0
    terminator: Terminator | None = None
    at: int = 0
    tls: str = ""
    certificate: tuple[bytes, ...] = ()
    backends: set[BackendId] = field(default_factory=set)

    def introduce(self, of: Ends | Unnamed | Own) -> None:
        """A proxy that is believed has said for whom it has connected."""
        match of:
            case Ends(client, client_port, local, local_port):
                self.client, self.client_port = client, client_port
                self.local = place(local, local_port)
            case Unnamed():
                self.client, self.client_port, self.local = UNKNOWN, 0, NOWHERE
            case Own():
                pass

    @property
    def ends(self) -> Ends | None:
        """The two ends of the connection, where both have addresses."""
        host, _, port = self.local.rpartition(":")
        if self.client in (UNIX, UNKNOWN) or not host:
            return None
        return Ends(self.client, self.client_port, host.strip("[]"), int(port))

    @property
    def scheme(self) -> bytes:
        return self.rules.scheme

    @property
    def gate(self) -> Callable[[str], bool] | None:
        """Which hosts may be served on this connection; None: all."""
        if self.rules.https_port is not None:
            return _none
        return None if self.terminator is None else partial(self.terminator.serves, self.at)

    def refusal(self, head: RequestHead, host: str | None) -> Reply | None:
        """What is answered to a request that is not served on this connection; None: it is."""
        authority = host or self.local
        if self.rules.https_port is not None:
            return moved_to_https(authority, self.rules.https_port, head.target)
        gate = self.gate
        return None if gate is None or gate(authority) else MISDIRECTED

    def forwarding_lines(self, pseudonym: bytes) -> bytes:
        """What every plain request of this connection is told to have come by."""
        client = self.client.encode("ascii", "replace")
        return forwarding_lines(client, self.scheme, pseudonym, self.certificate)


def _none(_: str) -> bool:
    return False


def arrival_of(
    rules: ListenerRules, peer: object, local: object, terminator: Terminator | None = None
) -> Arrival:
    """A connection by its two addresses, as the kernel tells them."""
    client, client_port = (str(peer[0]), int(peer[1])) if isinstance(peer, tuple) else (UNIX, 0)
    came_to = place(local[0], local[1]) if isinstance(local, tuple) else NOWHERE
    return Arrival(rules, client, client_port, came_to, terminator=terminator)


def place(host: str, port: int) -> str:
    """An address as a Host field has it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
