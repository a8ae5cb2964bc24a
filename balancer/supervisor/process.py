"""An instance as a process of its own: locks, signals, logs, and an exit code at the end."""

import os
import random
import resource
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import structlog
import trio

from balancer.admin.socket_file import SocketPlaceTaken, unix_listener
from balancer.config.settings import Settings
from balancer.supervisor.instance import Instance, Surroundings
from balancer.supervisor.instance_lock import AlreadyRunning, Holder, hold
from balancer.supervisor.listeners import CannotListen
from balancer.supervisor.places import NoPlace, cannot_open
from balancer.supervisor.state_file import (
    FileStateStore,
    MemoryStateStore,
    StateStore,
    StateUnreadable,
)
from balancer.telemetry.access_log import render_console, render_json
from balancer.telemetry.line_sink import FileSink, LineSink
from balancer.telemetry.logs import configure
from balancer.telemetry.record import ExchangeRecord
from balancer.wire.network import KernelNetwork

# HUP and USR2 are taken so that their default, a sudden end, cannot happen to whoever expects nginx.
NOT_SERVED = {signal.SIGHUP: "reload", signal.SIGUSR2: "upgrade"}
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, *NOT_SERVED)
# Each says in one sentence what keeps an instance from starting.
CANNOT_START = (AlreadyRunning, NoPlace, SocketPlaceTaken, CannotListen, StateUnreadable)
_log = structlog.get_logger()


def run_instance(settings: Settings, *, source: str) -> int:
    """Run an instance in the foreground until it is told to stop; the exit code.

    What keeps it from starting is one sentence on standard error, and 1.
    """
    _raise_descriptor_limit()
    try:
        with ExitStack() as stack:
            return _run(settings, source, stack)
    except CANNOT_START as exc:
        return _refused(str(exc))
    except BaseExceptionGroup as group:
        known, rest = group.split(CANNOT_START)
        if rest is not None or known is None:
            raise
        return _refused("; ".join(str(exc) for exc in _leaves(known)))
    except OSError as exc:
        where = f" {exc.filename}" if exc.filename else ""
        return _refused(f"cannot start:{where}: {exc.strerror or exc}")


def _run(settings: Settings, source: str, stack: ExitStack) -> int:
    admin = settings.admin
    path = Path(admin.socket)
    state = Path(admin.state) if admin.state else None
    stack.enter_context(
        hold(state=state, socket=path, holder=Holder.now(config=source, wall=time.time()))
    )
    network = KernelNetwork()
    listener = stack.enter_context(unix_listener(network, path))
    store: StateStore = FileStateStore(state) if state is not None else MemoryStateStore()
    logs = FileSink(os.dup(2))
    access = _access_sink(settings)
    sinks = [logs] if access is None else [logs, access]
    _configure_logs(settings, logs)

    async def main() -> None:
        around = Surroundings(
            name=f"{socket.gethostname()}-{os.getpid()}",
            network=network,
            store=store,
            access=_access_writer(settings, access),
            wall=time.time,
            rng=random.Random(),
            admin_listener=listener,
        )
        await _main(settings, around, sinks)

    trio.run(main)
    return 0


async def _main(settings: Settings, around: Surroundings, sinks: list[FileSink]) -> None:
    with trio.open_signal_receiver(*SIGNALS) as signals:
        async with trio.open_nursery() as writing:
            for sink in sinks:
                writing.start_soon(sink.run)
            instance = Instance(settings, around)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_obey, signals, instance, sinks)
                await instance.run()
                nursery.cancel_scope.cancel()
            writing.cancel_scope.cancel()


async def _obey(signals: AsyncIterator[int], instance: Instance, sinks: Sequence[FileSink]) -> None:
    """TERM and INT drain, one more stops now; QUIT drains without limit; USR1 reopens logs."""
    async for number in signals:
        if number == signal.SIGUSR1:
            for sink in sinks:
                sink.reopen()
        elif number in NOT_SERVED:
            what = NOT_SERVED[signal.Signals(number)]
            _log.warning("signal.ignored", because=f"{what} is not there yet", effect="no change")
        elif number == signal.SIGQUIT:
            instance.stop_without_limit()
        else:
            instance.stop_sooner()


def _access_sink(settings: Settings) -> FileSink | None:
    if settings.log.access == "off":
        return None
    if settings.log.access == "stdout":
        return FileSink(os.dup(1))
    try:
        return FileSink(settings.log.access)
    except OSError as exc:
        raise cannot_open("log.access", Path(settings.log.access), exc) from exc


def _access_writer(settings: Settings, sink: FileSink | None) -> Callable[[ExchangeRecord], None]:
    if sink is None:
        return lambda _record: None
    to_terminal = settings.log.access == "stdout" and os.isatty(1)
    render = render_json if _as_json(settings, to_terminal) else render_console

    def write(record: ExchangeRecord) -> None:
        at = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds")
        sink.write(render(record, at.replace("+00:00", "Z")))

    return write


def _configure_logs(settings: Settings, sink: LineSink) -> None:
    terminal = os.isatty(2)
    configure(
        sink,
        json=_as_json(settings, terminal),
        level=settings.log.level,
        colours=terminal,
    )


def _as_json(settings: Settings, terminal: bool) -> bool:
    return {"json": True, "console": False}.get(settings.log.format, not terminal)


def _raise_descriptor_limit() -> None:
    """Every connection needs two descriptors, and the soft limit is made for shells."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as exc:
        _log.warning("descriptors.not_raised", because=str(exc))


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for exc in group.exceptions:
        found.extend(_leaves(exc) if isinstance(exc, BaseExceptionGroup) else [exc])
    return found


def _refused(sentence: str) -> int:
    print(f"balancer: {sentence}", file=sys.stderr)  # noqa: T201 - the one line a user must see
    return 1
