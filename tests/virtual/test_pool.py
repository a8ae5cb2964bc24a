"""A worker's pool: it counts on the board, sees what others count, and ejects at once."""

import random
from collections import Counter

import pytest
import trio
from trio.testing import MockClock

from balancer.core.backend import BackendView
from balancer.core.board import Board, board_bytes, lay_out
from balancer.core.local_ejection import ejectable
from balancer.core.policies import make_policy
from balancer.core.snapshot import PoolSnapshot, pool_snapshot
from balancer.proxy.pool import LOOK_S, Pool, PoolLimits
from healthcheck.core.verdict import Evidence, Health
from tests.support.views import view

LIMITS = PoolLimits(
    connect_s=1.0,
    response_s=1.0,
    idle_s=1.0,
    idle_max=1,
    idle_timeout_s=1.0,
    age_max_s=1.0,
    requests_max=0,
    retry_after_s=1,
)


def board_of(workers: int = 2, cells: int = 101) -> Board:
    board = lay_out(bytearray(board_bytes(workers + 1, cells)), workers + 1, cells)
    for number in range(1, workers + 1):
        board.give(number)
    return board


def shot(*backends: BackendView, policy: str = "least-connections") -> PoolSnapshot:
    return pool_snapshot(
        "web",
        policy,
        backends,
        pending=(),
        panic_below=0.0,
        was_panic=False,
        ejectable=ejectable(backends, 1.0),
        eject_after=3,
    )


def backends(count: int) -> tuple[BackendView, ...]:
    return tuple(view(f"b{number}", cell=number) for number in range(count))


class Told:
    """A pool, and what it has reported."""

    def __init__(self, snapshot: PoolSnapshot, board: Board, row: int, seed: int = 1) -> None:
        self.reports: list[tuple[str, Evidence, bool]] = []
        policy = make_policy(snapshot.policy, random.Random(seed))
        self.pool = Pool(snapshot, policy, LIMITS, self._report, row=board.row(row))

    def _report(self, backend, evidence, _reason, _began, ejected) -> None:
        self.reports.append((backend.address, evidence, ejected))

    def pick(self) -> str:
        chosen = self.pool.pick(avoid=(), unrepeatable=False)
        assert chosen is not None
        return chosen.id.address

    def finish(self, address: str, evidence: Evidence = Evidence.SUCCESS) -> None:
        began = trio.current_time()
        found = next(one for one in self.pool.snapshot.backends if one.id.address == address)
        self.pool.record(found.id, evidence, "status 503", began)
        self.pool.end(address, began)


# ---- counting ------------------------------------------------------------------------------------


async def test_what_is_counted_stands_on_the_board(autojump_clock: MockClock) -> None:
    board = board_of()
    one = Told(shot(*backends(2)), board, 1)
    first, second = one.pick(), one.pick()
    assert {first, second} == {"b0", "b1"}
    assert [counts.in_flight for counts in board.counts([0, 1])] == [1, 1]
    one.finish("b0")
    one.finish("b1", Evidence.FAILURE)
    assert board.counts([0, 1]) == [(0, 1, 0), (0, 1, 1)]
    assert one.pool.in_flight == {"b0": 0, "b1": 0}


@pytest.mark.parametrize("seed", range(5))
async def test_two_workers_never_meet_on_one_backend_while_another_is_free(
    autojump_clock: MockClock, seed: int
) -> None:
    board = board_of()
    workers = [Told(shot(*backends(6)), board, row, seed=seed + row) for row in (1, 2)]
    picked = [workers[turn % 2].pick() for turn in range(6)]
    assert sorted(picked) == [f"b{n}" for n in range(6)]
    workers[0].finish(picked[2])
    assert workers[1].pick() == picked[2]


async def test_among_many_others_are_at_most_10_ms_behind(autojump_clock: MockClock) -> None:
    board = board_of()
    one, two = (Told(shot(*backends(60)), board, row, seed=row) for row in (1, 2))
    two.finish(two.pick())
    held = [one.pick() for _ in range(59)]
    free = next(f"b{n}" for n in range(60) if f"b{n}" not in held)
    seen = {address: seat.elsewhere for address, seat in two.pool._seats.items()}
    two.finish(two.pick())
    assert {address: seat.elsewhere for address, seat in two.pool._seats.items()} == seen
    await trio.sleep(LOOK_S)
    assert two.pick() == free


async def test_in_turns_others_matter_only_to_a_limit(autojump_clock: MockClock) -> None:
    board = board_of()
    turns = "weighted-round-robin"
    one, two = (Told(shot(*backends(3), policy=turns), board, row) for row in (1, 2))
    for _ in range(3):
        one.pick()
    assert sorted(two.pick() for _ in range(3)) == ["b0", "b1", "b2"]
    trial = view("b0", cell=0, on_trial=True, limit=1)
    later = shot(trial, *backends(3)[1:], policy=turns)
    for each in (one, two):
        each.pool.apply(later)
    picked = [each.pick() for each in (one, two) for _ in range(6)]
    assert picked.count("b0") == 1, "what runs since before does not count, and the trial does"


async def test_a_dead_worker_holds_nothing(autojump_clock: MockClock) -> None:
    board = board_of()
    one, two = (Told(shot(*backends(2)), board, row) for row in (1, 2))
    for _ in range(10):
        one.pick()
    taken = [two.pick() for _ in range(5)]
    board.void(1)
    assert Counter(taken + [two.pick() for _ in range(5)]) == {"b0": 5, "b1": 5}


async def test_who_is_gone_counts_until_its_last_attempt_ends(autojump_clock: MockClock) -> None:
    board = board_of()
    one = Told(shot(view("b0", cell=0)), board, 1)
    began = trio.current_time()
    chosen = one.pool.pick(avoid=(), unrepeatable=False)
    assert chosen is not None
    assert one.pool.apply(shot(view("b1", cell=1)))
    assert one.pool.in_flight == {"b0": 1, "b1": 0}
    assert board.counts([0])[0].in_flight == 1
    one.pool.record(chosen.id, Evidence.SUCCESS, "status 200", began)
    one.pool.end("b0", began)
    assert one.pool.in_flight == {"b1": 0}
    assert board.counts([0]) == [(0, 1, 0)]


async def test_who_moves_on_the_board_takes_along_what_runs(autojump_clock: MockClock) -> None:
    board = board_of()
    one = Told(shot(view("b0", cell=3)), board, 1)
    one.pick()
    assert not one.pool.apply(shot(view("b0", cell=4)))
    assert [counts.in_flight for counts in board.counts([3, 4])] == [0, 1]
    one.finish("b0")
    assert [counts.in_flight for counts in board.counts([3, 4])] == [0, 0]


@pytest.mark.parametrize("cell", [-1, 100, 5000])
async def test_without_a_place_on_the_board_all_goes_on(
    autojump_clock: MockClock, cell: int
) -> None:
    board = board_of(cells=101)
    one = Told(shot(view("b0", cell=cell), view("b1", cell=cell)), board, 1)
    assert sorted(one.pick() for _ in range(4)) == ["b0", "b0", "b1", "b1"]
    one.finish("b0")
    assert one.pool.in_flight == {"b0": 1, "b1": 2}
    assert one.pool.tallies["b0"].requests == 1


async def test_another_policy_goes_by_what_is_in_flight(autojump_clock: MockClock) -> None:
    one = Told(shot(*backends(2), policy="weighted-round-robin"), board_of(), 1)
    for _ in range(6):
        one.pick()
    for _ in range(3):
        one.finish("b1")
    one.pool.policy = make_policy("least-connections", random.Random(1))
    assert [one.pick() for _ in range(3)] == ["b1"] * 3


async def test_another_policy_among_many_forgets_the_ranking_of_the_old_one(
    autojump_clock: MockClock,
) -> None:
    """Who has left meanwhile was put into the new one by its last attempt, in somebody else's place."""
    one = Told(shot(*backends(20)), board_of(), 1)
    held = [one.pool.pick(avoid=(), unrepeatable=False) for _ in range(20)]
    one.pool.policy = make_policy("least-connections", random.Random(1))
    one.pool.apply(shot(*backends(13), view("b13", cell=13, on_trial=True)))
    picked = {one.pick() for _ in range(14)}
    for chosen in held:
        assert chosen is not None
        one.pool.end(chosen.id.address, 0.0)
    assert {one.pick() for _ in range(14)} == picked == {f"b{n}" for n in range(14)}
    assert sum(one.pool.in_flight.values()) == 28


# ---- ejecting ------------------------------------------------------------------------------------


def failing(one: Told, address: str, times: int) -> None:
    """That many attempts on the backend end badly, one after the other; others end well."""
    while times:
        picked = one.pick()
        bad = picked == address
        one.finish(picked, Evidence.FAILURE if bad else Evidence.SUCCESS)
        times -= bad


async def test_after_enough_failures_nothing_goes_there_from_the_next_pick_on(
    autojump_clock: MockClock,
) -> None:
    one = Told(shot(*backends(3)), board_of(), 1)
    failing(one, "b1", 3)
    assert [ejected for _, _, ejected in one.reports] == [False, False, True]
    assert "b1" not in [one.pick() for _ in range(10)]
    assert not one.pool.keeps_idle("b1")
    assert one.pool.snapshot.summary == "2 of 3 backends available"


async def test_the_supervisor_has_the_last_word(autojump_clock: MockClock) -> None:
    word = shot(*backends(3))
    one = Told(word, board_of(), 1)
    failing(one, "b1", 3)
    one.pool.decided("b1")
    assert "b1" in [one.pick() for _ in range(3)]
    one.finish("b1", Evidence.FAILURE)
    assert not one.reports[-1][2], "it counts anew"


async def test_what_the_supervisor_says_before_it_has_decided_ends_nothing(
    autojump_clock: MockClock,
) -> None:
    word = shot(*backends(3))
    one = Told(word, board_of(), 1)
    failing(one, "b1", 3)
    one.pool.apply(word)
    one.pool.decided("b2")
    assert {one.pick() for _ in range(6)} == {"b0", "b2"}


async def test_who_has_left_the_pool_takes_no_place_among_the_ejected(
    autojump_clock: MockClock,
) -> None:
    """Its last attempts go on failing; of the two that are left, one may go."""
    one = Told(shot(*backends(3)), board_of(), 1)
    held = [one.pick() for _ in range(9)]
    gone = next(found.id for found in one.pool.snapshot.backends if found.id.address == "b2")
    one.pool.apply(shot(*backends(2)))
    for _ in range(held.count("b2")):
        one.pool.record(gone, Evidence.FAILURE, "reset", trio.current_time())
        one.pool.end("b2", 0.0)
    assert not any(ejected for _, _, ejected in one.reports)
    failing(one, "b1", 3)
    assert one.reports[-1] == ("b1", Evidence.FAILURE, True)
    assert {one.pick() for _ in range(6)} == {"b0"}


async def test_an_ejection_that_the_supervisor_has_ended_does_not_come_back_with_the_next(
    autojump_clock: MockClock,
) -> None:
    word = shot(*backends(4))
    one = Told(word, board_of(), 1)
    failing(one, "b1", 3)
    one.pool.decided("b1")
    failing(one, "b2", 3)
    assert {one.pick() for _ in range(6)} == {"b0", "b1", "b3"}


async def test_without_a_word_it_ends_by_itself(autojump_clock: MockClock) -> None:
    one = Told(shot(*backends(3)), board_of(), 1)
    one.pool.base_ejection_s = 7.0
    failing(one, "b1", 3)
    await trio.sleep(6.9)
    one.pool.tick(trio.current_time())
    assert not one.pool.keeps_idle("b1")
    await trio.sleep(0.1)
    one.pool.tick(trio.current_time())
    assert one.pool.keeps_idle("b1")


async def test_the_last_one_stays(autojump_clock: MockClock) -> None:
    one = Told(shot(*backends(2)), board_of(), 1)
    failing(one, "b1", 3)
    for _ in range(9):
        one.finish(one.pick(), Evidence.FAILURE)
    assert [told for told in one.reports if told[2]] == [("b1", Evidence.FAILURE, True)]
    assert one.pick() == "b0"


async def test_an_attempt_that_ends_after_its_backend_was_ejected_is_counted_out(
    autojump_clock: MockClock,
) -> None:
    board = board_of()
    one = Told(shot(*backends(2)), board, 1)
    held = [one.pick() for _ in range(8)]
    for address in held:
        one.finish(address, Evidence.FAILURE if address == "b1" else Evidence.SUCCESS)
    assert not one.pool.keeps_idle("b1")
    assert [counts.in_flight for counts in board.counts([0, 1])] == [0, 0]


# ---- why nobody ----------------------------------------------------------------------------------


async def test_a_pool_without_anybody_says_why(autojump_clock: MockClock) -> None:
    none = Told(shot(), board_of(), 1)
    assert none.pool.pick(avoid=(), unrepeatable=False) is None
    assert "no backends" in none.pool.why_none().value
    none.pool.apply(shot(view("a", health=Health.HEALTHY)))
    assert none.pick() == "a"
