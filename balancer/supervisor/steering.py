"""Before sockets close: who connects from now on is kept away from them, and who has begun may end.

A handshake under way belongs to the socket that it began at, and is reset with it. Here the network is
told to have new ones begin at the sockets that stay. Nothing is closed or waited for here.
"""

from collections.abc import Collection, Iterable

from balancer.core.steering import stay_first
from balancer.supervisor.listening import Listening
from balancer.telemetry.logs import get_logger
from balancer.wire.network import Network
from balancer.worker.messages import SHARED, SocketKey

# How long a handshake may take: what is lost of it is sent again after a second.
HANDSHAKE_S = 2.0


class Steering:
    """Of all places of an instance."""

    def __init__(self, network: Network, listening: Listening) -> None:
        self._network = network
        self._listening = listening
        self._steered: list[str] = []
        self._is_refused = False

    def away_from(self, leaving: Collection[SocketKey]) -> bool:
        """Have nobody begin at these where others stay; whether there is such a place."""
        for bind in sorted({key.bind for key in leaving} & self._listening.in_order):
            slots = self._listening.slots_of(bind)
            first = stay_first(slots, [key.slot for key in leaving if key.bind == bind])
            if first and SHARED not in slots and self._steer(bind, first):
                self._steered.append(bind)
        return bool(self._steered)

    def end(self) -> None:
        """Have them begin at all sockets again."""
        while self._steered:
            self._steer(self._steered.pop(), None)

    def end_what_was_left(self, places: Iterable[str]) -> None:
        """The same where a supervisor before us may have been killed meanwhile."""
        for bind in places:
            self._steer(bind, None)

    def _steer(self, bind: str, first: int | None) -> bool:
        sockets = self._listening.sockets
        group = [key for key in sockets if key.bind == bind and key.slot != SHARED]
        if not group or self._is_refused:
            return False
        try:
            self._network.steer(sockets[group[0]], first)
        except OSError as exc:
            self._is_refused = True
            effect = "who connects just when there are to be fewer workers may be reset"
            get_logger().warning(
                "listener.not_steered", because=f"{exc.strerror or exc}", effect=effect
            )
        return not self._is_refused
