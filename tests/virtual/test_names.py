"""Names of backends: when they are looked up, and what is told when that fails."""

import socket
from typing import cast

import structlog
import trio
from trio.testing import MockClock

from balancer.core.backend import BackendId
from balancer.wire.dial import Target
from balancer.wire.network import Network
from balancer.worker.names import EVERY_S, Names

UNKNOWN = socket.gaierror(socket.EAI_NONAME, "Name or service not known")


class NoNames:
    """A network on which no name is known yet; it keeps when it was asked for which."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, str]] = []
        self.found: dict[str, tuple[Target, ...]] = {}

    async def resolve(self, host: str, _port: int) -> tuple[Target, ...]:
        self.asked.append((trio.current_time(), host))
        await trio.lowlevel.checkpoint()
        if host not in self.found:
            raise UNKNOWN
        return self.found[host]


def names_on(network: NoNames) -> Names:
    return Names(cast("Network", network))


async def test_a_name_that_is_not_known_is_looked_up_on_time_only(
    autojump_clock: MockClock,
) -> None:
    """It was looked up again with every snapshot, a thousand times a second in a bad moment."""
    network = NoNames()
    names = names_on(network)
    names.follow(["app.example:80", "10.0.0.1:80"])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(names.run)
        for _ in range(20):
            await trio.sleep(1)
            names.follow(["app.example:80", "10.0.0.1:80"])
        assert len(network.asked) == 1
        await trio.sleep(EVERY_S)
        assert len(network.asked) == 2
        nursery.cancel_scope.cancel()


async def test_a_new_name_is_looked_up_at_once(autojump_clock: MockClock) -> None:
    network = NoNames()
    network.found["new.example"] = ((socket.AF_INET, ("10.0.0.9", 80)),)
    names = names_on(network)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(names.run)
        await trio.sleep(1)
        names.follow(["new.example:80"])
        await trio.sleep(1)
        assert network.asked == [(1.0, "new.example")]
        assert names.targets(BackendId("web", "new.example:80")) == network.found["new.example"]
        names.follow(["10.0.0.1:80"])
        assert names.targets(BackendId("web", "new.example:80")) == ()
        nursery.cancel_scope.cancel()


async def test_why_a_name_is_not_known_is_told_without_the_number_of_an_error(
    autojump_clock: MockClock,
) -> None:
    with structlog.testing.capture_logs() as told:
        names = names_on(NoNames())
        names.follow(["app.example:80"])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(names.run)
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
    assert [line["because"] for line in told] == ["Name or service not known"]
