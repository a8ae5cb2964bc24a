"""A scene with several workers, of which a test may choose one, look into it, and end it."""

from collections.abc import Callable

import trio

from balancer.rehearsal.virtual_crew import VirtualProcess
from balancer.supervisor.events import EventKind
from balancer.worker.worker import Worker
from tests.support.edge_client import EdgeClient
from tests.support.scene import Scene

TWO = "workers = 2\n"
TRIES = 200


def process(play: Scene, slot: int) -> VirtualProcess:
    """The process that was started last for a slot."""
    return [each for each in play.stage.crew.processes if each.slot == slot][-1]


def worker(play: Scene, slot: int) -> Worker:
    """The worker that serves in a slot."""
    found = process(play, slot).link.worker
    assert found is not None, "it has no plan yet"
    return found


async def client_of(play: Scene, slot: int) -> EdgeClient:
    """A client whose connection that worker has accepted."""
    service = worker(play, slot).service
    for _ in range(TRIES):
        before = service.connections
        client = await play.client()
        await play.settled()
        if service.connections > before:
            return client
        client.close()
        await play.settled()
    raise AssertionError(f"worker {slot} accepts nobody")


async def clients_of_all(play: Scene, slots: int = 2) -> list[EdgeClient]:
    """One client of each worker."""
    return [await client_of(play, slot) for slot in range(slots)]


def told(play: Scene, *kinds: EventKind) -> list[str]:
    """The events of these kinds, each as cause and effect."""
    _, events = play.stage.instance.events.since(0)
    return [f"{event.cause}; {event.effect}" for event in events if event.kind in kinds]


def states(play: Scene) -> list[str]:
    """What the status says of each worker."""
    return [slot.state for slot in play.stage.instance.fleet.workers.slots]


async def until(come: Callable[[], bool], within_s: float = 60.0) -> float:
    """Wait until it has come true; how long that took, to a hundredth of a second."""
    began = trio.current_time()
    with trio.fail_after(within_s):
        while not come():  # noqa: ASYNC110 - what is looked at does not tell
            await trio.sleep(0.01)
    return trio.current_time() - began
