"""The listening sockets of an instance: one a worker slot and place, opened together or not at all.

They stay open here for as long as the instance lives, so that no worker's end loses a connection.
"""

from collections.abc import Collection, Iterable, Mapping

from balancer.core.address import overlap, parse_address
from balancer.supervisor.listeners import check_free, open_listener
from balancer.wire.network import Network, Sock
from balancer.worker.messages import SHARED, SocketKey


class Listening:
    """Owns the handles in `sockets`.

    `in_order`: the places whose sockets began to listen in the order of their slots, as far as any
    of them is open.
    """

    def __init__(
        self, network: Network, given: Mapping[SocketKey, Sock], in_order: Iterable[str]
    ) -> None:
        self._network = network
        self.sockets: dict[SocketKey, Sock] = dict(given)
        self.in_order = set(in_order)
        self._closed = False

    def open(self, binds: Collection[str], slots: Iterable[int]) -> list[SocketKey]:
        """Open what is missing for these places and slots; which that were.

        Nothing after `close_all`. Raises CannotListen, and then nothing was opened.
        """
        opened: list[SocketKey] = []
        if self._closed:
            return opened
        slots = sorted(slots)
        try:
            for bind in binds:
                missing = [key for key in self._keys(bind, slots) if key not in self.sockets]
                if missing and not self.slots_of(bind):
                    if not self._beside_ours(bind):
                        check_free(self._network, bind)
                    self.in_order.add(bind)
                for key in missing:
                    self.sockets[key] = open_listener(
                        self._network, self._exact(bind), reuse_port=key.slot != SHARED
                    )
                    opened.append(key)
        except BaseException:
            self.close(opened)
            raise
        return opened

    def wanted(self, binds: Collection[str], slots: Collection[int]) -> list[SocketKey]:
        """The sockets that there are to be for these places and slots."""
        return [key for bind in binds for key in self._keys(bind, slots)]

    def close(self, keys: Iterable[SocketKey]) -> None:
        """Close those of them that are open."""
        for key in keys:
            sock = self.sockets.pop(key, None)
            if sock is not None:
                sock.close()

    def close_all(self) -> None:
        """Close everything, for good."""
        self._closed = True
        self.close(list(self.sockets))

    def _keys(self, bind: str, slots: Iterable[int]) -> list[SocketKey]:
        shared = SocketKey(bind, SHARED)
        if shared in self.sockets or parse_address(bind, any_port=True).path is not None:
            return [shared]
        return [SocketKey(bind, slot) for slot in slots]

    def slots_of(self, bind: str) -> list[int]:
        """Whose sockets there are at this place."""
        return [key.slot for key in self.sockets if key.bind == bind]

    def _beside_ours(self, bind: str) -> bool:
        """Whether we listen at a part of this place already, or at one that it is a part of."""
        place = parse_address(bind, any_port=True)
        return any(overlap(place, parse_address(key.bind, any_port=True)) for key in self.sockets)

    def _exact(self, bind: str) -> str:
        """The place to bind to: where any port would do, the one that the first socket was given."""
        address = parse_address(bind, any_port=True)
        if address.path is not None or address.port:
            return bind
        for key, sock in self.sockets.items():
            name = sock.getsockname()
            if key.bind == bind and isinstance(name, tuple):
                host = f"[{address.host}]" if ":" in address.host else address.host
                return f"{host}:{name[1]}"
        return bind
