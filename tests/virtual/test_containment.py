"""One connection never harms another: a crash and a cancellation at every point of an exchange.

The points are found in the code, and the scenarios must come to all of them: a new `await` without a
scenario fails here, and its name is said.
"""

import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

import pytest

import balancer
from tests.support.await_points import DATA_PATH, instrumented, points
from tests.support.containment import Scenario, play
from tests.support.containment_scenarios import SCENARIOS
from tests.support.injection import Fault, Probe, Run, Way
from tests.support.transcript import Said

KERNEL = "the seam itself: whoever waits there is behind a point of Waiter"
# Points at which no exchange stands: what a crash there does is told in test_walls.py.
OF_NO_CONNECTION = {
    "proxy/accepting.py:accept_connections await room.wait": "the accept loop",
    "proxy/accepting.py:accept_connections await room.run_short": "the accept loop",
    "proxy/accepting.py:accept_connections await trio.lowlevel.checkpoint #2": "the accept loop",
    "proxy/room.py:Room.wait await self._until_freed": "the accept loop",
    "proxy/room.py:Room.run_short await self._until_freed": "the accept loop",
    "proxy/room.py:Room._until_freed await self._freed.wait": "the accept loop",
    "proxy/accepting.py:accept_connections await trio.lowlevel.checkpoint": "the accept loop",
    "proxy/accepting.py:accept_connections await service.network.wait_readable": "the accept loop",
    "wire/lane.py:Lane._run await self._turn": "the lane of all connections",
    "wire/lane.py:Lane._turn await self._edges.wait": "the lane of all connections",
    "wire/lane.py:Lane._turn await trio.lowlevel.checkpoint": "the lane of all connections",
    "wire/waiting.py:Timekeeper.run await trio.sleep_forever": "the deadlines of all connections",
    "wire/network.py:KernelNetwork.resolve await trio.to_thread.run_sync": "names of backends",
    "wire/network.py:KernelNetwork.wait_readable await trio.lowlevel.wait_readable": KERNEL,
    "wire/network.py:KernelNetwork.wait_writable await trio.lowlevel.wait_writable": KERNEL,
    "wire/network.py:_KernelEdges.wait await trio.lowlevel.wait_readable": "of the lane",
    "wire/tls_contexts.py:_as_file yield f'/proc/self/fd/{number}'": "of a plan that is obeyed",
}
POINTS = [point for point in points() if point not in OF_NO_CONNECTION]


@dataclass
class Found:
    """By which ways each scenario comes to points, and whether it comes back from there."""

    probe: Probe
    complaints: list[str] = field(default_factory=list)
    ways: dict[str, dict[Way, bool]] = field(default_factory=dict)
    said: dict[str, list[Said]] = field(default_factory=dict)

    def visit(self, scenario: Scenario) -> None:
        outcome = play(scenario, self.probe, Run())
        self.complaints += [f"{scenario.name}: {each}" for each in outcome.complaints]
        self.said[scenario.name] = outcome.said
        self.ways[scenario.name] = outcome.run.ways

    @property
    def reached(self) -> set[str]:
        return {way[-1] for ways in self.ways.values() for way in ways}

    def ways_to(self, point: str, fault: Fault) -> list[tuple[Way, Scenario]]:
        """From some points nothing ever comes back, and there is no crash after them."""
        return [
            (way, scenario)
            for scenario in SCENARIOS
            for way, back in self.ways[scenario.name].items()
            if way[-1] == point and (back or fault is not Fault.CRASH_AFTER)
        ]

    def complaints_after(self, way: Way, scenario: Scenario, fault: Fault) -> list[str]:
        """What is wrong after a fault there."""
        run = Run(target=way, fault=fault)
        outcome = play(scenario, self.probe, run, self.said[scenario.name])
        there = f"{scenario.name}: {fault.value}: {' > '.join(way)}"
        if run.happened is None:
            return [f"{there}: never happened"]
        return [f"{there}: {complaint}" for complaint in outcome.complaints]


@pytest.fixture(scope="module")
def found() -> Iterator[Found]:
    for folder in DATA_PATH:
        package = importlib.import_module(f"{balancer.__name__}.{folder}")
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    found = Found(Probe())
    with instrumented(found.probe):
        for scenario in SCENARIOS:
            found.visit(scenario)
        yield found


def test_every_point_is_reached_by_a_scenario(found: Found) -> None:
    """Where it is not: write the scenario, a few lines in tests/support/containment_scenarios.py."""
    reached = found.reached
    assert not (missing := set(POINTS) - reached), "no scenario: " + ", ".join(sorted(missing))
    assert OF_NO_CONNECTION.keys() <= set(points()), "some of these are gone"
    assert not OF_NO_CONNECTION.keys() & reached, "a connection does come there"


def test_a_scenario_without_a_fault_leaves_nothing(found: Found) -> None:
    assert found.complaints == []


@pytest.mark.parametrize("point", POINTS)
def test_a_fault_there_stays_in_its_connection(found: Found, point: str) -> None:
    """Told with its id, answered with 500 where nothing was sent, counted, and nothing is left."""
    complaints: list[str] = []
    for fault in Fault:
        if ways := found.ways_to(point, fault):
            way, scenario = Random(f"{point} {fault.name}").choice(ways)
            complaints += found.complaints_after(way, scenario, fault)
    assert complaints == []


@pytest.mark.long
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_no_fault_in_this_scenario_leaves_its_connection(found: Found, scenario: Scenario) -> None:
    """At every point, by every chain of callers by which it comes there, one fault each."""
    dice = Random(scenario.name)
    complaints: list[str] = []
    for way, back in found.ways[scenario.name].items():
        fault = dice.choice([fault for fault in Fault if back or fault is not Fault.CRASH_AFTER])
        complaints += found.complaints_after(way, scenario, fault)
    assert complaints == []
