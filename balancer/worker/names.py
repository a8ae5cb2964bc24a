"""Where each backend is: addresses at once, names looked up off the loop and kept.

A name is looked up at the start and every 30 seconds. The last answer is kept while the look-up
fails, and a name without any answer yet is no reason not to start.
"""

import socket
from collections.abc import Iterable

import trio

from balancer.core.address import Address, parse_address
from balancer.core.backend import BackendId
from balancer.telemetry.logs import get_logger
from balancer.wire.dial import Target
from balancer.wire.network import Network

EVERY_S = 30.0
LOOK_UP_S = 5.0


class Names:
    """The targets of every backend of one worker."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._found: dict[str, tuple[Target, ...]] = {}
        self._names: dict[str, Address] = {}
        self._wanted = trio.Event()
        self._log = get_logger()

    def targets(self, backend: BackendId) -> tuple[Target, ...]:
        """Where to dial, best first; () while the name is not known."""
        return self._found.get(backend.address, ())

    def follow(self, addresses: Iterable[str]) -> None:
        """From now on know these addresses, and forget all others."""
        wanted = {text: parse_address(text) for text in addresses}
        before = self._names.keys()
        self._names = {text: address for text, address in wanted.items() if address.is_name}
        known = {text: self._found[text] for text in self._names.keys() & self._found.keys()}
        for text, address in wanted.items():
            if not address.is_name:
                known[text] = (_target(address),)
        self._found = known
        if self._names.keys() - before:
            self._wanted.set()

    async def run(self) -> None:
        """Look names up until cancelled."""
        while True:
            self._wanted = trio.Event()
            async with trio.open_nursery() as nursery:
                for text, address in self._names.items():
                    nursery.start_soon(self._look_up, text, address)
            with trio.move_on_after(EVERY_S):
                await self._wanted.wait()

    async def _look_up(self, text: str, address: Address) -> None:
        try:
            with trio.fail_after(LOOK_UP_S):
                found = await self._network.resolve(address.host, address.port)
        except (OSError, trio.TooSlowError) as exc:
            kept = "the last answer is kept" if text in self._found else "no answer yet"
            self._log.warning("name.unknown", backend=text, because=_why(exc), effect=kept)
            return
        if text in self._names:
            self._found[text] = found


def _why(exc: Exception) -> str:
    if isinstance(exc, OSError):
        return exc.strerror or str(exc)
    return f"no answer in {LOOK_UP_S:g} s"


def _target(address: Address) -> Target:
    if address.path is not None:
        return socket.AF_UNIX, address.path
    if ":" in address.host:
        return socket.AF_INET6, (address.host, address.port, 0, 0)
    return socket.AF_INET, (address.host, address.port)
