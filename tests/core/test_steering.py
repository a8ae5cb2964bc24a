"""Which sockets of a place clients come to: the numbers of slots, and the kernel's program."""

import struct
from collections import Counter
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.steering import next_slots, program, stay_first


@pytest.mark.parametrize(
    ("staying", "taken", "numbers"),
    [
        ((), (), [0, 1]),
        ((0, 1), (0, 1), [2, 3]),
        ((0,), (0, 1, 2), [3, 4]),
        ((0, 3), (0, 1, 3), [4, 5]),
        ((0,), (0, 2), [1, 3]),
    ],
)
def test_a_new_slot_comes_after_all_that_stay(
    staying: tuple[int, ...], taken: tuple[int, ...], numbers: list[int]
) -> None:
    assert list(islice(next_slots(staying, taken), 2)) == numbers


@pytest.mark.parametrize(
    ("slots", "leaving", "first"),
    [
        ((0, 1, 2), (1, 2), 1),
        ((2, 0, 1), (2,), 2),
        ((0, 3, 4), (4,), 2),
        ((0, 1), (), 0),
        ((0, 1), (0, 1), 0),
        ((0, 1, 2), (1,), 0),
        ((0, 1), (0,), 0),
    ],
)
def test_only_the_first_can_be_told_from_the_others(
    slots: tuple[int, ...], leaving: tuple[int, ...], first: int
) -> None:
    assert stay_first(slots, leaving) == first


class Group:
    """The sockets of one place as the kernel numbers them."""

    def __init__(self) -> None:
        self.slots: list[int] = []

    def close(self, slot: int) -> None:
        """The last one gets the number of the one that is closed."""
        self.slots[self.slots.index(slot)] = self.slots[-1]
        self.slots.pop()

    def chosen(self, code: bytes, chance: int) -> int:
        """Whose socket the kernel takes, after it has run the program."""
        number = 0
        for at in range(0, len(code), 8):
            what, _, _, operand = struct.unpack_from("=HBBI", code, at)
            match what:
                case 0x20:
                    assert operand == 0xFFFFF000 + 56, "a random word"
                    number = chance
                case 0x94:
                    number %= operand
                case 0x16:
                    break
                case 0x06:
                    number = operand
                    break
                case _:
                    raise AssertionError(f"no such instruction: {what:#x}")
        fits = number < len(self.slots)
        return self.slots[number if fits else chance % len(self.slots)]


@given(st.lists(st.tuples(st.integers(1, 9), st.randoms(use_true_random=False)), max_size=12))
def test_however_often_there_are_more_and_fewer_those_that_stay_are_taken(
    turns: list[tuple[int, object]],
) -> None:
    """Those that leave are closed in any order, and their numbers are theirs for a while."""
    group, staying, taken = Group(), [0], {0}
    group.slots = [0]
    for wanted, rng in turns:
        staying, leaving = staying[:wanted], staying[wanted:]
        if leaving:
            first = stay_first(group.slots, leaving)
            assert first == len(staying)
            code = program(first)
            assert {group.chosen(code, chance) for chance in range(50)} == set(staying)
            for slot in sorted(leaving, key=lambda _: rng.random()):  # type: ignore[attr-defined]
                group.close(slot)
                assert {group.chosen(code, chance) for chance in range(50)} == set(staying)
            taken = set(staying) | {s for s in leaving if rng.random() < 0.5}  # type: ignore[attr-defined]
        new = list(islice(next_slots(staying, taken), max(0, wanted - len(staying))))
        staying += new
        taken |= set(new)
        group.slots += new
        assert group.slots == sorted(group.slots) == staying


def test_every_one_of_the_first_gets_its_share() -> None:
    group = Group()
    group.slots = [0, 1, 2, 3]
    taken = Counter(group.chosen(program(3), chance) for chance in range(300))
    assert taken == {0: 100, 1: 100, 2: 100}


def test_all_are_chosen_among_when_none_is_named() -> None:
    group = Group()
    group.slots = [0, 1, 2]
    assert {group.chosen(program(None), chance) for chance in range(9)} == {0, 1, 2}
