"""What changes and what goes wrong: one line each, by structlog, which is not there from the start.

structlog brings rich, pygments and asyncio with it: a fifth of what a worker has to import, and
7 MiB. So it comes with the first line that is written, or by `load`, which whoever serves calls soon
after it began to: a program that is being replaced may not find its files later.
"""

from dataclasses import dataclass
from typing import Any

from balancer.telemetry.line_sink import LineSink


@dataclass(frozen=True, slots=True)
class _Choice:
    sink: LineSink
    json: bool
    level: str
    colours: bool
    journal: bool


class _Structlog:
    """structlog, and what was chosen for it before it is there."""

    def __init__(self) -> None:
        self._choice: _Choice | None = None
        self._there = False

    def choose(self, choice: _Choice) -> None:
        self._choice = choice
        if self._there:
            self._obey(choice)

    def logger(self) -> Any:
        import structlog  # noqa: PLC0415  # not from the start

        if not self._there:
            # A thread may be at it as well: nobody gets a logger that is not set up yet.
            self._obey(self._choice)
            self._there = True
        return structlog.get_logger()

    def _obey(self, choice: _Choice | None) -> None:
        from balancer.telemetry.log_lines import set_up  # noqa: PLC0415  # imports structlog

        if choice is not None:
            set_up(
                choice.sink,
                json=choice.json,
                level=choice.level,
                colours=choice.colours,
                journal=choice.journal,
            )


_structlog = _Structlog()


class Logger:
    """Writes lines: an event's name (`thing.what`) and its fields."""

    def debug(self, event: str, **fields: object) -> None:
        _structlog.logger().debug(event, **fields)

    def info(self, event: str, **fields: object) -> None:
        _structlog.logger().info(event, **fields)

    def warning(self, event: str, **fields: object) -> None:
        _structlog.logger().warning(event, **fields)

    def error(self, event: str, **fields: object) -> None:
        _structlog.logger().error(event, **fields)

    def exception(self, event: str, **fields: object) -> None:
        """An error, with the exception that is being handled."""
        _structlog.logger().exception(event, **fields)


def get_logger() -> Logger:
    return Logger()


def configure(
    sink: LineSink, *, json: bool, level: str, colours: bool, journal: bool = False
) -> None:
    """Send every line of this process to `sink`. `journal`: it leads to systemd's."""
    _structlog.choose(_Choice(sink, json, level, colours, journal))


def load() -> None:
    """Import what lines are made with; takes some 50 ms of CPU, so rather in a thread."""
    _structlog.logger()
