"""Where an instance is asked: its admin socket, and its health address if it has one.

Decides who is let in while another process takes over; what is answered is the desk's.
"""

from collections.abc import Callable, Collection
from functools import partial

import trio

from balancer.admin import api, server
from balancer.admin.control import Control
from balancer.admin.health import PublicSide
from balancer.supervisor.bequest import HEALTH, Handle
from balancer.wire.network import Network, Sock

# Answers under way when another process has taken over get this long.
DISMISSAL_S = 1.0


class Reception:
    """Owns the socket of the health address; that of the admin path is somebody else's.

    `names`: the public names of the health address, as the settings in force have them.
    """

    def __init__(
        self,
        network: Network,
        control: Control,
        admin: Sock | None,
        names: Callable[[], Collection[str]],
    ) -> None:
        self._network = network
        self._control = control
        self._admin = admin
        self._names = names
        self._public: tuple[str, Sock] | None = None
        self._doors = server.Door(), server.Door()
        self._answering = trio.CancelScope()

    def own(self, bind: str, sock: Sock) -> None:
        """Answer at this health address as well."""
        self._public = bind, sock

    def handles(self) -> list[tuple[Handle, object]]:
        """The health address, for a successor."""
        return [] if self._public is None else [(Handle(HEALTH, self._public[0]), self._public[1])]

    async def run(self) -> None:
        """Answer until cancelled or dismissed."""
        at_admin, at_health = self._doors
        with self._answering:
            async with trio.open_nursery() as nursery:
                if self._admin is not None:
                    answer = partial(api.answer, control=self._control)
                    nursery.start_soon(server.serve, self._admin, self._network, answer, at_admin)
                if self._public is not None:
                    public = PublicSide(self._control, self._names).answer
                    sock = self._public[1]
                    nursery.start_soon(server.serve, sock, self._network, public, at_health)

    def shut(self) -> None:
        """Let nobody in; who comes waits in the queue of the socket. Who is in stays."""
        for door in self._doors:
            door.shut()

    def open(self) -> None:
        for door in self._doors:
            door.open()

    async def dismiss(self) -> None:
        """Finish the answers under way, and hang up on everybody: another process answers now."""
        self.close()
        await trio.sleep(DISMISSAL_S)
        self._answering.cancel()

    def close(self) -> None:
        """Close our handle of the health address."""
        if self._public is not None:
            _, sock = self._public
            self._public = None
            self._network.notify_closing(sock)
            sock.close()
