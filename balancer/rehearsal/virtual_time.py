"""The virtual-time runner: a trio run that neither waits nor varies.

Time jumps to the next deadline whenever every task is blocked, and the order of tasks comes from a
seed. Refused here: real waits. A thread, a file or a kernel socket inside the run would let timers
fire early, so those go through seams.
"""

# ruff: noqa: SLF001 -- the seed of trio's task order has no public name

import gc
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import trio
import trio.testing
from trio._core import _run

T = TypeVar("T")

TURNS_PER_COLLECTION = 2000


def run_virtual(main: Callable[..., Awaitable[T]], *args: object, seed: int) -> T:
    """Run `main(*args)` in virtual time from 0.0 on; the same seed gives the same run, byte for byte.

    Both trio's task order and the `random` module are seeded; garbage is collected at fixed turns,
    because finalisers would otherwise run when memory happens to say so. All of it is restored.
    """
    clock = trio.testing.MockClock(autojump_threshold=0)
    with _seeded(seed), _no_stray_collections() as collector:
        return trio.run(main, *args, clock=clock, instruments=[collector])


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    ours, everyones = _run._r.getstate(), random.getstate()
    switch = _run._ALLOW_DETERMINISTIC_SCHEDULING
    _run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    _run._r.seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        _run._ALLOW_DETERMINISTIC_SCHEDULING = switch  # type: ignore[misc]
        _run._r.setstate(ours)
        random.setstate(everyones)


class _Collector(trio.abc.Instrument):
    """Collects garbage every so many turns of the loop."""

    def __init__(self) -> None:
        self._turns = 0

    def before_io_wait(self, timeout: float) -> None:  # noqa: ARG002 -- trio's signature
        self._turns += 1
        if self._turns % TURNS_PER_COLLECTION == 0:
            gc.collect()


@contextmanager
def _no_stray_collections() -> Iterator[_Collector]:
    enabled = gc.isenabled()
    gc.collect()  # what earlier runs left must not be finalised in this one
    gc.disable()
    try:
        yield _Collector()
    finally:
        if enabled:
            gc.enable()
