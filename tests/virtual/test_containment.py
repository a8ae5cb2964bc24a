"""One connection never harms another: a crash and a cancellation at every point of an exchange.

The points are found in the code, and the scenarios must come to all of them: a new `await` without a
scenario fails here, and its name is said.
"""

import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

import balancer
from tests.support.await_points import DATA_PATH, instrumented, points
from tests.support.containment import Scenario, play
from tests.support.containment_scenarios import SCENARIOS
from tests.support.injection import Fault, Probe, Run, Way
from tests.support.transcript import Said

KERNEL = "the seam itself: whoever waits there is behind a point of Waiter"
CODED = "no listener speaks TLS yet"
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
    "wire/handshake.py:handshake await waiter.readable": CODED,
    "wire/handshake.py:handshake await waiter.writable": CODED,
    "wire/streams.py:receive await waiter.writable": CODED,
    "wire/pacing.py:Paced.receive await self.writable": CODED,
    "proxy/tunnel_way.py:Way._arrived await self._wait": CODED,
}
POINTS = [point for point in points() if point not in OF_NO_CONNECTION]


@dataclass
class Found:
    """Which scenario comes to a point by which way, and comes back from there."""

    probe: Probe
    complaints: list[str] = field(default_factory=list)
    ways: dict[Way, Scenario] = field(default_factory=dict)
    and_back: dict[Way, Scenario] = field(default_factory=dict)
    said: dict[str, list[Said]] = field(default_factory=dict)

    def visit(self, scenario: Scenario) -> None:
        outcome = play(scenario, self.probe, Run())
        self.complaints += [f"{scenario.name}: {each}" for each in outcome.complaints]
        self.said[scenario.name] = outcome.said
        for way, back in outcome.run.ways.items():
            self.ways.setdefault(way, scenario)
            if back:
                self.and_back.setdefault(way, scenario)

    def ways_to(self, point: str, fault: Fault) -> dict[Way, Scenario]:
        ways = self.and_back if fault is Fault.CRASH_AFTER else self.ways
        return {way: scenario for way, scenario in ways.items() if way[-1] == point}

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
    reached = {way[-1] for way in found.ways}
    assert not (missing := set(POINTS) - reached), "no scenario: " + ", ".join(sorted(missing))
    assert OF_NO_CONNECTION.keys() <= set(points()), "some of these are gone"
    assert not OF_NO_CONNECTION.keys() & reached, "a connection does come there"


def test_a_scenario_without_a_fault_leaves_nothing(found: Found) -> None:
    assert found.complaints == []


@pytest.mark.parametrize("point", POINTS)
def test_a_fault_there_stays_in_its_connection(found: Found, point: str) -> None:
    """Told with its id, answered with 500 where nothing was sent, counted, and nothing is left."""
    complaints: list[str] = []
    for number, fault in enumerate(Fault):
        ways = list(found.ways_to(point, fault).items())
        if ways:  # from some nothing ever comes back
            way, scenario = ways[(len(point) + number) % len(ways)]
            complaints += found.complaints_after(way, scenario, fault)
    assert complaints == []


@pytest.mark.long
@pytest.mark.parametrize("point", POINTS)
def test_a_fault_there_stays_in_its_connection_whatever_the_way(found: Found, point: str) -> None:
    """From every chain of callers that some scenario comes by."""
    complaints = [
        complaint
        for fault in Fault
        for way, scenario in found.ways_to(point, fault).items()
        for complaint in found.complaints_after(way, scenario, fault)
    ]
    assert complaints == []
