"""Shared memory for the board: a descriptor that processes hand to each other.

It lives as long as anybody holds it, and has no name that could be left behind.
"""

import mmap
import os

from balancer.core.board import Board, board_bytes, lay_out


def new_memory() -> int:
    """A descriptor of fresh memory with an empty board; pages nobody writes to take no room."""
    descriptor = os.memfd_create("balancer-board", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, board_bytes())
    lay_out(memoryview(mmap.mmap(descriptor, 0)))
    return descriptor


def board_in(descriptor: int) -> Board:
    """The board behind a descriptor. OtherLayout."""
    return Board(memoryview(mmap.mmap(descriptor, 0)))
