"""When a process that has ended is started again: at once, and ever later if it ends at once again.

Plain: the caller says when it started and when it ended.
"""

# One that has run so long did not fail because of how it starts.
STEADY_S = 10.0
FIRST_PAUSE_S = 0.1
PAUSE_MAX_S = 10.0


class Restarts:
    """The restarts of one worker slot."""

    def __init__(self) -> None:
        self.in_a_row = 0

    def pause_s(self, lived_s: float) -> float:
        """How long to wait before the next start, given how long the last one lived."""
        if lived_s >= STEADY_S:
            self.in_a_row = 0
        self.in_a_row += 1
        if self.in_a_row == 1:
            return 0.0
        doubled: float = FIRST_PAUSE_S * 2.0 ** min(self.in_a_row - 2, 16)
        return min(doubled, PAUSE_MAX_S)

    @property
    def looping(self) -> bool:
        """Whether it keeps on ending soon after its start."""
        return self.in_a_row > 1
