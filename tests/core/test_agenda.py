"""Who is due when, against a plain table of the same."""

import math

from hypothesis import given
from hypothesis import strategies as st

from healthcheck.core.agenda import DROPPED_MAX, Agenda

NAMES = st.sampled_from("abcde")
TIMES = st.integers(0, 50).map(float)


def test_the_soonest_comes_first_and_only_once() -> None:
    agenda = Agenda()
    agenda.put("late", 2.0, 0.0)
    agenda.put("soon", 1.0, 0.0)
    agenda.put("soon too", 1.0, 0.0)
    assert agenda.next_due() == 1.0
    assert agenda.take_due(0.9) == []
    assert agenda.take_due(2.0) == ["soon", "soon too", "late"]
    assert agenda.next_due() == math.inf


def test_who_may_come_early_comes_along() -> None:
    agenda = Agenda()
    agenda.put("a", 1.0, 0.0)
    agenda.put("b", 1.02, 0.025)
    agenda.put("c", 1.02, 0.01)
    assert agenda.take_due(1.0) == ["a", "b"]
    assert agenda.next_due() == 1.02


def test_a_new_entry_replaces_the_old_one() -> None:
    agenda = Agenda()
    agenda.put("a", 1.0, 0.0)
    agenda.put("a", 5.0, 0.0)
    assert agenda.take_due(4.0) == []
    assert agenda.take_due(5.0) == ["a"]


def test_entries_that_were_dropped_do_not_pile_up() -> None:
    agenda = Agenda()
    for _ in range(10_000):
        agenda.put("a", 1e9, 0.0)
        agenda.drop("a")
        agenda.drop("a")
    assert len(agenda._heap) <= DROPPED_MAX + 3


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("put"), NAMES, TIMES),
            st.tuples(st.just("drop"), NAMES),
            st.tuples(st.just("take"), TIMES),
        )
    )
)
def test_it_is_what_a_table_would_say(steps: list[tuple[object, ...]]) -> None:
    agenda, table = Agenda(), dict[str, float]()
    for step in steps:
        match step:
            case ("put", str(name), float(due)):
                agenda.put(name, due, 0.0)
                table[name] = due
            case ("drop", str(name)):
                agenda.drop(name)
                table.pop(name, None)
            case _:
                now = step[1]
                assert isinstance(now, float)
                taken = agenda.take_due(now)
                assert sorted(taken) == sorted(name for name, due in table.items() if due <= now)
                assert [table[name] for name in taken] == sorted(table[name] for name in taken)
                for name in taken:
                    del table[name]
        assert agenda.next_due() == min(table.values(), default=math.inf)
