"""Which sockets of one place new connections come to, and how the kernel is told.

The kernel numbers the sockets of a place (SO_REUSEPORT) by when they began to listen, and when one is
closed, the last of them gets its number. So an order is known for sure only where those go first that
came last. That is why worker slots are numbered as they are here. Nothing is opened or closed here.
"""

import struct
from collections.abc import Collection, Iterator
from itertools import count

# Instructions of linux/filter.h, each a `struct sock_filter`: code, two jumps, operand.
_INSTRUCTION = struct.Struct("=HBBI")
_LOAD, _MODULO, _RETURN, _RETURN_IT = 0x20, 0x94, 0x06, 0x16
_RANDOM = 0xFFFFF000 + 56  # SKF_AD_OFF + SKF_AD_RANDOM: not a word of the packet, but a random one
_NONE_OF_THEM = 0xFFFFFFFF


def next_slots(staying: Collection[int], taken: Collection[int]) -> Iterator[int]:
    """Numbers for slots to come: above all that stay, so that numbers tell whose sockets came last.

    A number that is `taken` still belongs to somebody who leaves.
    """
    return (number for number in count(max(staying, default=-1) + 1) if number not in taken)


def stay_first(slots: Collection[int], leaving: Collection[int]) -> int:
    """How many of a place's sockets stay, which are those of these slots, where they are the first.

    0: nobody leaves or nobody stays, or those that stay are not the first.
    """
    first = len(slots) - len(leaving)
    return first if leaving and set(sorted(slots)[first:]) == set(leaving) else 0


def program(first: int | None) -> bytes:
    """What has the kernel take one of the first so many sockets of a place; None: of all.

    By chance, where the kernel's own choice goes by a hash of the packet. To name a number that no
    socket has leaves the choice to the kernel.
    """
    if first is None:
        return _INSTRUCTION.pack(_RETURN, 0, 0, _NONE_OF_THEM)
    steps = (_LOAD, _RANDOM), (_MODULO, first), (_RETURN_IT, 0)
    return b"".join(_INSTRUCTION.pack(code, 0, 0, operand) for code, operand in steps)
