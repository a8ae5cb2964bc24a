"""How text reaches a terminal: nothing in it can steer the terminal, and times are short."""

from datetime import UTC, datetime

import click

_STEP = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def printable(text: object) -> str:
    """`text` with control characters spelled out: paths and names are written by strangers."""
    return "".join(ch if ch.isprintable() else f"\\x{ord(ch):02x}" for ch in str(text))


def age(seconds: float) -> str:
    """A span in its two largest units: "3m 12s"."""
    left = max(0, int(seconds))
    parts: list[str] = []
    for size, unit in _STEP:
        count, left = divmod(left, size)
        if count or (parts and len(parts) < 2):
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2]) or "0s"


def age_since(iso: object, now: float) -> str:
    """The age of a moment as the API writes it; empty when it is none."""
    try:
        moment = datetime.fromisoformat(str(iso))
    except ValueError:
        return ""
    return age(now - moment.replace(tzinfo=moment.tzinfo or UTC).timestamp())


class Duration(click.ParamType[float]):
    """A span of time on the command line: "30s", "1m30s", "250ms", or seconds."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Seconds; a usage error says what is understood."""
        if isinstance(value, float | int):
            return float(value)
        from balancer.config.durations import DURATION_HELP, parse_duration
        from balancer.config.errors import Unfit

        text = str(value).strip()
        try:
            return float(text) if text.isdigit() else parse_duration(text)
        except Unfit:
            self.fail(f"{text!r}: {DURATION_HELP}", param, ctx)
