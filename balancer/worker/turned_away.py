"""Who was turned away before HTTP began: each told once, all counted.

Decides when a line is worth writing, so that one who knocks all day does not fill the disk.
"""

from balancer.telemetry.logs import Logger

# So many different ones are remembered; then it begins anew.
REMEMBERED_MAX = 1024


class TurnedAwayClients:
    """Those of one worker; `count` is all of them."""

    def __init__(self, log: Logger) -> None:
        self._log = log
        self._told: set[tuple[str, str, str]] = set()
        self.count = 0

    def __call__(self, listener: str, client: str, because: str) -> None:
        self.count += 1
        key = (listener, client, because)
        if key in self._told:
            return
        if len(self._told) >= REMEMBERED_MAX:
            self._told.clear()
        self._told.add(key)
        self._log.warning(
            "connection.turned_away",
            listener=listener,
            client=client,
            because=because,
            effect="closed; told once for each client and reason",
        )
