"""structlog set up: what a line looks like, JSON or for a terminal, and the sink it goes to.

Whatever a client can write is escaped in either form.
"""

import io
import json as json_text
import logging
import os
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

from balancer.telemetry.journal import PRIORITY_OF
from balancer.telemetry.line_sink import LineSink


class _SinkLogger:
    """The last hop of structlog: a rendered line into a sink."""

    def __init__(self, sink: LineSink) -> None:
        self._sink = sink

    def msg(self, message: str) -> None:
        self._sink.write(message.encode("utf-8", "backslashreplace") + b"\n")

    debug = info = warning = error = critical = exception = log = fatal = msg


def set_up(sink: LineSink, *, json: bool, level: str, colours: bool, journal: bool) -> None:
    """Send every structlog line of this process to `sink`."""
    renderer: structlog.typing.Processor
    if json:
        renderer = structlog.processors.JSONRenderer(_dumps)
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=colours and not os.environ.get("NO_COLOR"),
            exception_formatter=_escaped_traceback,
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
        processors=[*processors, _with_priority(renderer) if journal else renderer],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=lambda *_: _SinkLogger(sink),
        cache_logger_on_first_use=False,
    )


def _with_priority(render: structlog.typing.Processor) -> structlog.typing.Processor:
    def rendered(
        logger: object, method: str, event: structlog.typing.EventDict
    ) -> structlog.typing.ProcessorReturnValue:
        priority = PRIORITY_OF[event["level"]]
        return f"{priority}{render(logger, method, event)!s}"

    return rendered


def _escaped(
    _logger: object, _method: str, event: MutableMapping[str, object]
) -> MutableMapping[str, object]:
    """Control bytes made visible, so that nothing a client sent can forge or colour a line."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = _visible(value)
    return event


def _escaped_traceback(out: TextIO, exc_info: structlog.typing.ExcInfo) -> None:
    """A traceback whose messages, which may quote a client, hold no control bytes either."""
    plain = io.StringIO()
    structlog.dev.plain_traceback(plain, exc_info)
    out.write("\n".join(map(_visible, plain.getvalue().split("\n"))))


def _visible(text: str) -> str:
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def _dumps(event: object, **options: Any) -> str:
    """JSON in which DEL is escaped like every other control byte."""
    return json_text.dumps(event, **options).replace("\x7f", "\\u007f")
