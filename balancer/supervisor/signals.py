"""What reaches a process beside its sockets, and what it tells: signals, and the service manager.

Decides which signal asks for what. A refusal is told to the log alone: nobody waits for an answer.
"""

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import trio

from balancer.admin.control import Done, HandedOver, NotApplied
from balancer.core.ledger import Refused
from balancer.supervisor.instance import Instance
from balancer.supervisor.notify import Notifier
from balancer.telemetry.line_sink import FileSink
from balancer.telemetry.logs import get_logger

SIGNALS = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
_log = get_logger()


async def obey(signals: AsyncIterator[int], instance: Instance, logs: FileSink) -> None:
    """TERM and INT drain, one more stops now; QUIT drains without limit; USR1 reopens logs."""
    async with trio.open_nursery() as nursery:
        async for number in signals:
            match number:
                case signal.SIGUSR1:
                    logs.reopen()
                    instance.fleet.reopen_logs()
                case signal.SIGHUP:
                    nursery.start_soon(_ask_for, "reload", partial(_reload, instance))
                case signal.SIGUSR2:
                    nursery.start_soon(_ask_for, "upgrade", instance.desk.upgrade)
                case signal.SIGQUIT:
                    instance.stop_without_limit()
                case _:
                    instance.stop_sooner()


async def _reload(instance: Instance) -> Done:
    """Reload, or have the process do so that has taken over: a HUP is meant for whoever serves."""
    try:
        return await instance.desk.reload()
    except HandedOver:
        heir = instance.succession.signal_heir(signal.SIGHUP)
        return Done(changed=False, message=f"passed on to process {heir}, which serves now")


async def _ask_for(what: str, order: Callable[[], Awaitable[Done]]) -> None:
    """Do what a signal asks, and tell how it went."""
    try:
        done = await order()
    except (NotApplied, Refused) as exc:
        _log.error(f"{what}.refused", because=str(exc))
    else:
        _log.info(f"{what}.done", because=done.message, laggards=list(done.laggards))


async def keep_manager_informed(notifier: Notifier, instance: Instance) -> None:
    """Tell a service manager when we are ready, that we live, and when we stop."""
    async with trio.open_nursery() as nursery:
        if notifier.watchdog_s is not None:
            nursery.start_soon(_feed, notifier, notifier.watchdog_s)
        await instance.accepting.wait()
        notifier.ready("serving", took_over=instance.took_over)
        await instance.ending.asked.wait()
        if instance.passed_on:  # what is told is no longer about us
            nursery.cancel_scope.cancel()
        else:
            notifier.stopping("stopping")
    if instance.passed_on:
        await instance.succession.lost.wait()  # we are the parent who is told of its end
        notifier.failed("the main process has failed while the one before it still drains")


async def _feed(notifier: Notifier, every_s: float) -> None:
    while True:
        notifier.alive()
        await trio.sleep(every_s)
