"""Where a worker's lines go: the access log and its own log, as the plan says."""

import os
import time
from contextlib import suppress
from functools import partial

import trio

from balancer.telemetry.access_log import Render, render_console, render_json
from balancer.telemetry.journal import leads_to_journal
from balancer.telemetry.line_sink import FileSink
from balancer.telemetry.logs import configure, get_logger, load
from balancer.telemetry.record import ExchangeRecord
from balancer.worker.messages import LogPlan


class FileLines:
    """Lines to files, standard output and standard error; `run` writes them."""

    def __init__(self) -> None:
        self._logs = FileSink(os.dup(2))
        self._access: FileSink | None = None
        self._render: Render = render_json
        self._plan: LogPlan | None = None
        self._told = trio.Event()
        self._sinks: trio.Nursery | None = None
        self._writing: trio.CancelScope | None = None

    async def run(self) -> None:
        """Write until cancelled."""
        async with trio.open_nursery() as self._sinks:
            self._sinks.start_soon(self._logs.run)
            if self._access is not None:
                self._start(self._access)
            # What lines are made with is no part of a start, but must be here before the program's
            # files may go.
            await self._told.wait()
            await trio.to_thread.run_sync(load)
            await trio.sleep_forever()

    def access(self, record: ExchangeRecord) -> None:
        if self._access is not None:
            self._access.write(self._render(record, time.time()))

    def obey(self, plan: LogPlan) -> None:
        """Write as the plan says; a file that cannot be opened leaves the old one in use."""
        if plan == self._plan:
            return
        configure(
            self._logs,
            json=plan.json,
            level=plan.level,
            colours=plan.colours,
            journal=leads_to_journal(os.environ, 2),
        )
        self._render = render_json if plan.access_json else render_console
        if self._plan is None or plan.access != self._plan.access:
            with suppress(OSError):
                self._replace(_sink_of(plan.access))
        self._plan = plan
        self._told.set()

    def reopen(self) -> None:
        if self._access is not None:
            self._access.reopen()

    def _replace(self, sink: FileSink | None) -> None:
        if self._writing is not None:
            self._writing.cancel()
        self._access = sink
        if sink is not None and self._sinks is not None:
            self._start(sink)

    def _start(self, sink: FileSink) -> None:
        assert self._sinks is not None
        scope = self._writing = trio.CancelScope()
        self._sinks.start_soon(_write, sink, scope)


async def _write(sink: FileSink, scope: trio.CancelScope) -> None:
    with scope:
        await sink.run()


def _sink_of(access: str) -> FileSink | None:
    if access == "off":
        return None
    return FileSink(os.dup(1) if access == "stdout" else access, partial(_tell, access))


def _tell(access: str, failure: OSError | None) -> None:
    if failure is None:
        get_logger().info("access_log.written", because=f"{access} can be written again")
    else:
        because = f"{access} cannot be written: {failure.strerror}"
        effect = "lines are dropped and counted until it can; requests are served"
        get_logger().error("access_log.not_written", because=because, effect=effect)
