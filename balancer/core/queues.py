"""Ranking many seats in a heap: a pick costs the logarithm of their number.

Decides who is next by (load, due). A seat is due again 1/weight of virtual time after its last turn,
and virtual time is where the latest turn was due. So, while loads are equal, any full round of picks
is exact; who was passed over (full, busier) goes once before the others, and what it missed beyond
that is not made up for; who was tried already misses nothing.

Entries are never searched for. One that is no longer its seat's is dropped when it comes to the top;
one whose load has grown since is put back where it belongs when it comes to the top; a load that
went down is entered anew at once; whoever is full when it comes to the top is out until it is eased.
"""

from collections.abc import Collection, Sequence
from heapq import heapify, heappop, heappush, heapreplace

from balancer.core.seat import NOT_RANKED, Entry, Seat
from balancer.core.turns import TURN


class Queue:
    """The seats `seats[start:end]` of a ranking."""

    __slots__ = ("_heap", "_most", "_seats")

    def __init__(self, seats: Sequence[Seat], start: int, end: int) -> None:
        self._seats = seats
        self._heap = [(seat.load, seat.due, seat.index) for seat in seats[start:end]]
        for entry in self._heap:
            seats[entry[2]].entry = entry
        heapify(self._heap)
        # Beyond this, entries that are out of date are swept out; seldom enough to cost nothing.
        self._most = 2 * (end - start) + 16

    def enter(self, seat: Seat) -> None:
        """Put the seat where it belongs now; an entry that it has counts no more."""
        seat.entry = entry = (seat.load, seat.due, seat.index)
        heap = self._heap
        heappush(heap, entry)
        if len(heap) > self._most:
            seats = self._seats
            heap[:] = [entry for entry in heap if entry is seats[entry[2]].entry]
            heapify(heap)

    def first(self, avoid: Collection[str]) -> Entry | None:
        """The entry of the first seat that has room and is not at an address in `avoid`."""
        heap, seats = self._heap, self._seats
        aside: list[Entry] = []
        found: Entry | None = None
        while heap and found is None:
            entry = heap[0]
            seat = seats[entry[2]]
            if entry is not seat.entry:
                heappop(heap)
            elif entry[0] < seat.load:
                seat.entry = entry = (seat.load, seat.due, seat.index)
                heapreplace(heap, entry)
            elif seat.limit is not None and seat.taken >= seat.limit:
                seat.entry = None
                heappop(heap)
            elif seat.address in avoid:
                aside.append(heappop(heap))
            else:
                found = entry
        for entry in aside:
            heappush(heap, entry)
        return found

    def moved(self, seat: Seat, before: Entry) -> None:
        """The seat had this entry, the first of all or set aside, and has moved back."""
        if self._heap[0] is before:
            seat.entry = entry = (seat.load, seat.due, seat.index)
            heapreplace(self._heap, entry)
        else:
            self.enter(seat)


class Queues:
    """The seats of one snapshot. Those on trial queue apart, as some picks are not for them.

    A newcomer is on average in the middle: behind it, a thousand of them would for a while leave too
    much to whoever is heavy.
    """

    newcomer = TURN // 2

    def __init__(self, seats: Sequence[Seat]) -> None:
        steady = [seat for seat in seats if not seat.view.on_trial]
        self._seats = steady + [seat for seat in seats if seat.view.on_trial]
        self._trials_from = len(steady)
        self._by_address: dict[str, Seat] | None = None
        self._weight = sum(seat.weight for seat in seats)
        for index, seat in enumerate(self._seats):
            seat.index = index
            seat.due = (TURN // 2 - (seat.owed or 0)) // seat.weight
        self._now = 0  # virtual time, in units of TURN
        self._steady = Queue(self._seats, 0, len(steady))
        self._trials = Queue(self._seats, len(steady), len(seats))
        self.has_trials = len(steady) < len(seats)

    def take(self) -> Seat | None:
        """The next one, counted as taken; None when nobody has room."""
        return self.take_from((), trials=True)

    def take_from(self, avoid: Collection[str], *, trials: bool) -> Seat | None:
        """As `take`, among those not at an address in `avoid`, and on trial only if `trials`."""
        entry = self._steady.first(avoid)
        if trials and self.has_trials:
            other = self._trials.first(avoid)
            if entry is None or (other is not None and other < entry):
                entry = other
        if entry is None:
            return None
        if avoid:
            self._pass_over(avoid)
        seat = self._seats[entry[2]]
        self._now = now = max(self._now, seat.due)
        seat.due = now + TURN // seat.weight
        seat.taken += 1
        seat.load = seat.taken / seat.divisor
        self._queue_of(seat).moved(seat, entry)
        return seat

    def _pass_over(self, avoid: Collection[str]) -> None:
        """Let the time of one pick among the others pass for these, too.

        Otherwise who fails would be due again before the others are, and get all first attempts.
        """
        if self._by_address is None:
            self._by_address = {seat.address: seat for seat in self._seats}
        found = [self._by_address.get(address) for address in avoid]
        seats = [seat for seat in found if seat is not None]
        step = TURN // (self._weight - sum(seat.weight for seat in seats))
        for seat in seats:
            seat.due += step
            if seat.entry is not None:
                self._queue_of(seat).enter(seat)

    def eased(self, seat: Seat) -> None:
        """Less is taken of the seat than before."""
        entry = seat.entry
        if seat.index != NOT_RANKED and (entry is None or seat.load < entry[0]):
            self._queue_of(seat).enter(seat)

    def _queue_of(self, seat: Seat) -> Queue:
        return self._steady if seat.index < self._trials_from else self._trials

    def leave(self) -> None:
        """Write what everybody is owed into the seats, for whichever ranking comes next."""
        for seat in self._seats:
            owed = TURN // 2 - seat.weight * (seat.due - self._now)
            seat.owed = min(max(owed, -TURN), TURN)
            seat.index, seat.entry = NOT_RANKED, None
