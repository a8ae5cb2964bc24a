"""Who writes which row of the board: our workers, those before us, those after us; and when none is left."""

from collections.abc import Iterator

import pytest
import trio
from trio.testing import MockClock

from balancer.admin.control import NotApplied
from balancer.core.board import Board, board_bytes, lay_out
from balancer.supervisor.rows import NoRow, Rows
from balancer.supervisor.slots import Slot
from tests.support.crew_scene import process, states, until
from tests.support.edge_client import fetch
from tests.support.scene import Scene, config_for, scene
from tests.support.virtual_backend import answers, silent

ROWS = 9
LATE = '[pools.late]\nbackends = ["10.0.0.2:80"]\nhealth = { timeout = "30s", interval = "60s" }\n'
ROUTES = '[[routes]]\npool = "web"\n'


class Ours:
    """A supervisor's rows, with slots in these, on a board of eight."""

    def __init__(self, *rows: int) -> None:
        self.living: set[int] = set()
        self.board = lay_out(bytearray(board_bytes(ROWS, 2)), ROWS, 2)
        self.slots = [Slot(number=n, row=self.sign(row)) for n, row in enumerate(rows)]
        self.rows = Rows(self.board, self.slots, self.living.__contains__)

    def sign(self, row: int) -> int:
        """As a worker that lives does."""
        self.board.row(self.board.give(row)).sign_on(100 + row)
        self.living.add(100 + row)
        return row

    def follow(self) -> int:
        self.slots.append(Slot(number=len(self.slots), row=self.rows.next()))
        return self.slots[-1].row


def given_meanwhile(board: Board, left_alone: set[int]) -> Iterator[int]:
    """What a successor gives out to its workers, of which no one has signed yet."""
    theirs: list[Slot] = []
    rows = Rows(board, theirs, lambda _: True)
    rows.lend(left_alone)
    while True:
        theirs.append(Slot(number=len(theirs), row=rows.next()))
        yield theirs[-1].row


def test_two_supervisors_never_give_the_same_row_to_two() -> None:
    ours = Ours(1, 2)
    with ours.rows.shared() as left_alone:
        theirs = given_meanwhile(ours.board, set(left_alone))
        given = [next(theirs), next(theirs), ours.follow(), next(theirs), ours.follow()]
        assert given == [3, 4, 5, 7, 6]
        assert next(theirs) == 8
        with pytest.raises(NoRow, match="while another process prepares to take over"):
            ours.follow()
        with pytest.raises(NoRow, match="no room for 1 more workers: of the 8 rows"):
            next(theirs)


def test_what_was_kept_is_free_when_the_other_one_does_not_come() -> None:
    ours = Ours(1, 2)
    with ours.rows.shared():
        pass
    assert [ours.follow() for _ in range(6)] == [3, 4, 5, 6, 7, 8]
    with ours.rows.shared() as left_alone:
        assert set(left_alone) == set(range(1, 9)), "all are ours, and none is kept"


def test_the_rows_of_a_successor_that_failed_are_free_when_its_workers_have_ended() -> None:
    ours = Ours(1)
    left = [ours.sign(row) for row in range(2, 9)]
    ours.board.row(left[0]).in_flight[0] = 3
    with pytest.raises(NoRow):
        ours.follow()
    ours.living.discard(100 + left[0])
    assert ours.follow() == left[0]
    assert ours.board.counts([0])[0].in_flight == 0


async def test_more_workers_than_there_is_room_for_are_refused(autojump_clock: MockClock) -> None:
    with pytest.RaisesGroup(NoRow, flatten_subgroups=True):
        async with scene({"a": answers()}, top="workers = 17"):
            raise AssertionError("it serves")


async def test_a_reload_to_more_than_there_is_room_for_changes_nothing(
    autojump_clock: MockClock,
) -> None:
    async with scene({"a": answers()}, top="workers = 2") as play:
        play.stage.config = config_for("a", top="workers = 17")
        with pytest.raises(NotApplied, match=r"no room for 15 more .*; nothing was changed"):
            await play.stage.instance.desk.reload()
        assert states(play) == ["serving", "serving"]
        play.stage.config = config_for("a", top="workers = 3")
        assert (await play.stage.instance.desk.reload()).laggards == ()
        assert (await fetch(play.network)).status == 200


async def test_a_reload_whose_room_has_gone_meanwhile_keeps_the_workers_there_are(
    autojump_clock: MockClock,
) -> None:
    async with scene({"a": answers(), "b": silent()}, top="workers = 1") as play:
        play.stage.config = config_for("a", top="workers = 4", pool=LATE + ROUTES)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(play.stage.instance.desk.reload)
            await trio.sleep(1)
            fill(play)
        assert "late" in play.stage.instance.pools.books, "all else is in force"
        assert states(play) == ["serving"]
        assert (await fetch(play.network)).status == 200


async def test_who_leaves_while_there_is_no_room_is_followed_when_it_has_ended(
    autojump_clock: MockClock,
) -> None:
    async with scene({"a": silent()}, top='workers = 2\nshutdown_timeout = "5s"') as play:
        await play.settled()
        fill(play)
        leaving = process(play, 0)
        client = await play.client()
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        leaving.terminate()
        await trio.sleep(0.1)
        assert sorted(states(play)) == ["draining", "serving"]
        await until(lambda: states(play) == ["serving", "serving"], within_s=10)
        assert process(play, 0) is not leaving


def fill(play: Scene) -> None:
    """As if all other rows belonged to workers that have not ended."""
    play.stage.instance.fleet.workers.rows.lend(range(1, play.stage.crew.board.rows))
