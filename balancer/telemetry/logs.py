"""structlog for what changes and what goes wrong: one line each, JSON or for a terminal.

Lines go through the same sink as access lines, to standard error, so a stuck terminal or pipe never
holds up the event loop.
"""

import logging
import os
from collections.abc import MutableMapping

import structlog

from balancer.telemetry.line_sink import LineSink


class _SinkLogger:
    """The last hop of structlog: a rendered line into a sink."""

    def __init__(self, sink: LineSink) -> None:
        self._sink = sink

    def msg(self, message: str) -> None:
        self._sink.write(message.encode("utf-8", "backslashreplace") + b"\n")

    debug = info = warning = error = critical = exception = log = fatal = msg


def configure(sink: LineSink, *, json: bool, level: str, colours: bool) -> None:
    """Send every structlog line of this process to `sink`."""
    renderer: structlog.typing.Processor
    if json:
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=colours and not os.environ.get("NO_COLOR"),
            exception_formatter=structlog.dev.plain_traceback,
        )
    processors: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if json:
        processors.append(structlog.processors.format_exc_info)
    else:
        processors.append(_escaped)
    structlog.configure(
        processors=[*processors, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=lambda *_: _SinkLogger(sink),
        cache_logger_on_first_use=False,
    )


def _escaped(
    _logger: object, _method: str, event: MutableMapping[str, object]
) -> MutableMapping[str, object]:
    """Control bytes made visible, so that nothing a client sent can forge or colour a line."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = "".join(
                char if char.isprintable() else char.encode("unicode_escape").decode()
                for char in value
            )
    return event
