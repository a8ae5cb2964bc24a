"""The real admin server around a fake instance, on a unix socket, in a thread of its own."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog
import trio

from balancer.admin.api import answer
from balancer.admin.server import serve
from balancer.admin.socket_file import unix_listener
from balancer.wire.network import KernelNetwork
from tests.support.fake_control import FakeControl

T = TypeVar("T")


class AdminInstance:
    """A running admin server; `do` calls a function between two of its steps."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.control = FakeControl()
        self._serving = threading.Event()
        self._token: trio.lowlevel.TrioToken | None = None
        self._scope: trio.CancelScope | None = None
        self._thread = threading.Thread(target=trio.run, args=(self._run,))

    def start(self) -> None:
        self._thread.start()
        assert self._serving.wait(5)

    def end(self) -> None:
        """Close the socket and everybody's connection, as an instance does that ends."""
        if self._thread.is_alive():
            assert self._scope is not None
            self.do(self._scope.cancel)
            self._thread.join(5)
            assert not self._thread.is_alive()

    def do(self, function: Callable[[], T]) -> T:
        assert self._token is not None
        return trio.from_thread.run_sync(function, trio_token=self._token)

    async def _run(self) -> None:
        network = KernelNetwork()
        self._token = trio.lowlevel.current_trio_token()
        with unix_listener(network, self.path) as listener, trio.CancelScope() as self._scope:
            self._serving.set()
            await serve(listener, network, partial(answer, control=self.control))


@contextmanager
def admin_instance(path: Path) -> Iterator[AdminInstance]:
    """An admin server at `path` for the time of the block."""
    instance = AdminInstance(path)
    with structlog.testing.capture_logs():
        instance.start()
        try:
            yield instance
        finally:
            instance.end()
