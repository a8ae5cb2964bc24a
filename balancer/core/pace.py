"""How long a peer may still keep us waiting: waiting uses its time up, bytes give it back.

Decides when a peer is too slow. A pause that is followed by bytes is forgiven, a trickle is not:
each byte is worth the time it takes at the least rate, and nobody has more than `most_s` in hand.
"""

# Less is not worth another wait; it keeps a peer at just about the least rate from ever shorter ones.
WORTH_A_WAIT_S = 1.0


class Pace:
    """One peer, in one direction. `rate`: the least, in bytes a second; 0: any byte gives all back.

    Whoever waits for the peer says how long that took (`waited`) and how many bytes came of it
    (`moved`); `left_s` is how long the next wait may last. Time in which nobody waits for the peer is
    not its time.
    """

    __slots__ = ("_ahead", "_most_s", "_rate", "left_s")

    def __init__(self, rate: int, most_s: float) -> None:
        self._rate = rate
        self._most_s = most_s
        self._ahead = 0
        self.left_s = most_s

    def waited(self, seconds: float) -> None:
        self.left_s -= seconds

    def moved(self, count: int) -> None:
        """So many bytes have passed; what was seen of them before counts once."""
        fresh = count - self._ahead
        self._ahead = max(-fresh, 0)
        self._gain(fresh)

    def seen(self, count: int) -> None:
        """So many bytes were taken out of our buffers, to be followed by as many that pass."""
        self._ahead += max(count, 0)
        self._gain(count)

    def _gain(self, count: int) -> None:
        if count > 0:
            gain_s = count / self._rate if self._rate else self._most_s
            self.left_s = min(self._most_s, self.left_s + gain_s)

    @property
    def is_used_up(self) -> bool:
        """Whether it is to be ended."""
        return self.left_s < min(WORTH_A_WAIT_S, self._most_s)
