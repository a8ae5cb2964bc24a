"""Whether a worker still turns its loop, judged by the sign of life that it writes on the board.

Counts looks, not seconds: after a pause of the whole machine nobody is judged by time that nobody
had.
"""

from enum import Enum

# How often to look; workers beat as often.
LOOK_S = 0.5
HUNG_LOOKS = 3
KILL_LOOKS = 10
# One that starts has more time, and ends by itself before that if it can.
START_LOOKS = 40


class Finding(Enum):
    """What a look says. HUNG: others should accept for it. DEAD: it is not coming back."""

    ALIVE = "alive"
    QUIET = "quiet"
    HUNG = "hung"
    DEAD = "dead"


class Pulse:
    """The signs of life of one worker."""

    def __init__(self) -> None:
        self._beat = -1
        self._quiet = 0

    def look(self, beat: int, patience: int = KILL_LOOKS) -> Finding:
        """One look at the worker's counter; DEAD again after every `patience` looks in vain."""
        if beat != self._beat:
            self._beat = beat
            self._quiet = 0
            return Finding.ALIVE
        self._quiet += 1
        if self._quiet % patience == 0:
            return Finding.DEAD
        return Finding.HUNG if self._quiet >= HUNG_LOOKS else Finding.QUIET
