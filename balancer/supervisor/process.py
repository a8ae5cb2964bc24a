"""An instance as a process of its own: locks, signals, logs, and an exit code at the end."""

import os
import random
import resource
import socket
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from balancer.admin.socket_file import SocketPlaceTaken
from balancer.config.load import ParsedConfig
from balancer.config.settings import Settings
from balancer.core.board import WORKERS_MAX, OtherLayout
from balancer.supervisor.activation import given_listeners
from balancer.supervisor.bequest import Channel, Failed
from balancer.supervisor.certificate_files import (
    CertificatesUnusable,
    load_certificates,
    read_file,
    stamp_of,
)
from balancer.supervisor.certificates import Source
from balancer.supervisor.heritage import (
    CannotTakeOver,
    Heritage,
    channel_to_predecessor,
    inherited,
)
from balancer.supervisor.instance import Instance
from balancer.supervisor.instance_lock import AlreadyRunning, Holder
from balancer.supervisor.listeners import CannotListen
from balancer.supervisor.notify import Notifier
from balancer.supervisor.places import NoPlace, cannot_open
from balancer.supervisor.planning import log_plan
from balancer.supervisor.premises import Premises, inherited_premises, own_premises
from balancer.supervisor.processes import ProcessCrew, next_channel
from balancer.supervisor.signals import SIGNALS, keep_manager_informed, obey
from balancer.supervisor.state_file import (
    FileStateStore,
    MemoryStateStore,
    StateStore,
    StateUnreadable,
)
from balancer.supervisor.successor import command_of_this_process
from balancer.supervisor.surroundings import Surroundings
from balancer.supervisor.takeover import Orphans, gather, orphans_are_left
from balancer.telemetry.journal import leads_to_journal
from balancer.telemetry.line_sink import FileSink, is_unread, open_place
from balancer.telemetry.logs import configure, get_logger
from balancer.wire.network import KernelNetwork
from balancer.worker.memory import board_in, new_memory
from balancer.worker.messages import SHARED, LogPlan, SocketKey

# Each says in one sentence what keeps an instance from starting.
CANNOT_START = (
    AlreadyRunning,
    NoPlace,
    SocketPlaceTaken,
    CannotListen,
    CannotTakeOver,
    StateUnreadable,
)
_log = get_logger()


def run_instance(
    config: ParsedConfig, *, source: str, load: Callable[[], ParsedConfig] | None = None
) -> int:
    """Run an instance in the foreground until it is told to stop; the exit code.

    `load` reads the file again, for a reload. What keeps it from starting is one sentence on standard
    error, and 1. Started by an instance that is to be upgraded, it takes over from that one.
    """
    _raise_descriptor_limit()
    given = _Given(config=config, source=source, load=load)
    channel = channel_to_predecessor(os.environ)
    refuse = _refused if channel is None else partial(_refused_to, channel)
    try:
        with ExitStack() as stack:
            heritage = None
            if channel is not None:
                heritage = stack.enter_context(closing(trio.run(inherited, channel)))
            return _run(given, heritage, stack)
    except CertificatesUnusable as exc:
        why = exc.in_lines_of(config)
        return refuse(f"{config.name} is not valid; nothing was started\n{why}")
    except CANNOT_START as exc:
        return refuse(str(exc))
    except BaseExceptionGroup as group:
        known, rest = group.split(CANNOT_START)
        if rest is not None or known is None:
            raise
        return refuse("; ".join(str(exc) for exc in _leaves(known)))
    except OSError as exc:
        where = f" {exc.filename}" if exc.filename else ""
        return refuse(f"cannot start:{where}: {exc.strerror or exc}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    """What we were started with."""

    config: ParsedConfig
    source: str
    load: Callable[[], ParsedConfig] | None

    @property
    def settings(self) -> Settings:
        return self.config.settings

    async def load_again(self) -> ParsedConfig:
        """The file as it is now. ConfigErrors, NoPlace."""
        return await trio.to_thread.run_sync(self._load_and_check, abandon_on_cancel=True)

    def _load_and_check(self) -> ParsedConfig:
        assert self.load is not None
        config = self.load()
        _check_access_log(config.settings)
        return config


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What is there before anything runs: opened, inherited, or left by others."""

    premises: Premises
    heritage: Heritage | None
    orphans_left: bool
    store: StateStore
    activated: dict[str, int]
    certificates: Source


def _run(given: _Given, heritage: Heritage | None, stack: ExitStack) -> int:
    settings, admin = given.settings, given.settings.admin
    holder = Holder.now(config=given.source, wall=time.time())
    command = command_of_this_process(os.environ)
    if heritage is None:
        premises = stack.enter_context(own_premises(admin, holder, command))
    else:
        premises = stack.enter_context(inherited_premises(admin, heritage, command))
        heritage.settle = partial(premises.settle, holder)
    logs = FileSink(os.dup(2))
    _configure_logs(_log_plan(settings), logs)
    _check_access_log(settings)
    certificates = load_certificates(settings, read_file, stamp_of)
    binds = [listener.bind for listener in settings.listeners]
    found = _Found(
        premises=premises,
        heritage=heritage,
        orphans_left=heritage is None and orphans_are_left(premises.workers_path),
        store=FileStateStore(Path(admin.state)) if admin.state else MemoryStateStore(),
        activated=given_listeners(os.environ, pid=os.getpid(), binds=binds),
        certificates=Source(certificates),
    )
    trio.run(_main, given, found, logs)
    return 0


async def _main(given: _Given, found: _Found, logs: FileSink) -> None:
    with trio.open_signal_receiver(*SIGNALS) as signals:
        async with trio.open_nursery() as writing:
            writing.start_soon(logs.run)
            orphans = await _orphans(found) if found.orphans_left else None
            notifier = Notifier(os.environ, pid=os.getpid())
            instance = _instance(given, found, orphans, notifier)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(obey, signals, instance, logs)
                nursery.start_soon(keep_manager_informed, notifier, instance)
                nursery.start_soon(_write_as_settings_say, instance, logs)
                await instance.run()
                nursery.cancel_scope.cancel()
            writing.cancel_scope.cancel()


async def _orphans(found: _Found) -> Orphans | None:
    """The workers of a supervisor that was killed, if they are ours to take over."""
    orphans = await gather(partial(next_channel, found.premises.workers.sock), board_in)
    if orphans is None:
        _log.error("workers.not_taken_over", because="none of those that are left has dialled")
    else:
        _log.warning("workers.taken_over", count=len(orphans.workers))
    return orphans


def _instance(
    given: _Given, found: _Found, orphans: Orphans | None, notifier: Notifier
) -> Instance:
    network = KernelNetwork()
    heritage, premises = found.heritage, found.premises
    sockets = {SocketKey(bind, SHARED): number for bind, number in found.activated.items()}
    if orphans is not None:
        sockets |= orphans.sockets
    if heritage is not None:
        sockets |= heritage.take_listeners()
    adopted = [] if orphans is None else orphans.adopted()
    around = Surroundings(
        name=f"{socket.gethostname()}-{os.getpid()}",
        network=network,
        store=found.store,
        crew=_crew(found, orphans),
        log=_log_plan,
        wall=time.time,
        rng=random.Random(),
        processors=min(len(os.sched_getaffinity(0)), WORKERS_MAX),
        admin_listener=premises.admin.sock,
        sockets={key: network.adopted(number) for key, number in sockets.items()},
        adopted=adopted,
        strays={} if orphans is None else orphans.strays(adopted),
        source=given.source,
        load=None if given.load is None else given.load_again,
        outside=premises,
        heritage=heritage,
        certificates=found.certificates,
        notifier=notifier,
    )
    return Instance(given.settings, around)


def _crew(found: _Found, orphans: Orphans | None) -> ProcessCrew:
    """Workers that count on the board that is there, if there is one that we can read."""
    premises = found.premises
    crew = partial(ProcessCrew, premises.workers_path, premises.workers.sock, first=premises.beside)
    if orphans is not None:
        return crew(orphans.memory)
    if found.heritage is not None:
        try:
            return crew(found.heritage.take_board())
        except OtherLayout as exc:
            _log.warning("board.new", because=str(exc), effect="counting anew")
    return crew(new_memory())


async def _write_as_settings_say(instance: Instance, logs: FileSink) -> None:
    """Let our own lines look as a reload says; workers are told with all the rest."""
    log = instance.fleet.settings.log
    while True:
        await instance.events.wait_newer(instance.events.last)
        settings = instance.fleet.settings
        if settings.log != log:
            log = settings.log
            _configure_logs(_log_plan(settings), logs)


def _check_access_log(settings: Settings) -> None:
    """Say now what workers would find out: that it cannot be written, or that nobody reads it."""
    access = settings.log.access
    if access in {"off", "stdout"}:
        return
    try:
        place = open_place(access)
    except OSError as exc:
        raise cannot_open("log.access", Path(access), exc) from exc
    if is_unread(place):
        effect = "lines wait in it, and are dropped when it is full, until somebody reads"
        _log.warning("access_log.unread", because=f"nobody reads the pipe {access}", effect=effect)
    os.close(place)


def _log_plan(settings: Settings) -> LogPlan:
    return log_plan(settings.log, stdout_terminal=os.isatty(1), stderr_terminal=os.isatty(2))


def _configure_logs(plan: LogPlan, sink: FileSink) -> None:
    journal = leads_to_journal(os.environ, 2)
    configure(sink, json=plan.json, level=plan.level, colours=plan.colours, journal=journal)


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


def _refused_to(predecessor: Channel, sentence: str) -> int:
    predecessor.send(Failed(sentence))
    return _refused(sentence)


def _refused(sentence: str) -> int:
    print(f"balancer: {sentence}", file=sys.stderr)  # noqa: T201 - the one line a user must see
    return 1
