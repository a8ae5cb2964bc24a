"""The clients whose connection rests between two requests, those that have rested longest first.

Decides whom to dismiss when room is needed: nobody who has only just come to rest. Where a listener
no longer lets everybody in whom it let in before, all are.
"""

from itertools import islice

import trio

from balancer.proxy.faults import GoingAway
from balancer.proxy.room import Door
from balancer.wire.waiting import Waiter

# A request may be on its way.
SPARED_S = 1.0
# Of many that rest, so many are looked through for those of one listener.
LOOKED_THROUGH_MAX = 1024


class RestingClients(dict[Waiter, tuple[float, Door]]):
    """Since when each has rested, and where it came in. Who rests puts itself in, and out."""

    def dismiss(self, door: Door | None, count: int) -> None:
        """Ask so many to leave, of those that came in by `door`; None: of all."""
        latest = trio.current_time() - SPARED_S
        for waiter, (since, came_by) in list(islice(self.items(), LOOKED_THROUGH_MAX)):
            if since > latest or not count:
                return
            if door in (None, came_by) and not waiter.interrupted:
                waiter.interrupt(GoingAway())
                count -= 1

    def dismiss_all(self, door: Door) -> None:
        """Ask all to leave that came in by `door`, also whoever has only just come to rest."""
        for waiter, (_, came_by) in list(self.items()):
            if came_by is door:
                waiter.interrupt(GoingAway())
