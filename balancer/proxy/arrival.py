"""How a client has come: at which listener, from where, and by what.

Decides nothing. What is known before the first byte stands here from the accept on; a listener that
wants something before HTTP begins (`ListenerRules.prelude`) has it completed from there.
"""

from dataclasses import dataclass

from balancer.proxy.service import ListenerRules
from balancer.wire.strict_heads import forwarding_lines


@dataclass(slots=True)
class Arrival:
    """One connection of a client.

    `client` is the address it comes from, `local` the one it came to, as `host:port`.
    """

    rules: ListenerRules
    client: str
    local: str

    @property
    def scheme(self) -> bytes:
        return self.rules.scheme

    def forwarding_lines(self) -> bytes:
        """What every plain request of this connection is told to have come by."""
        return forwarding_lines(self.client.encode("ascii", "replace"), self.scheme)
