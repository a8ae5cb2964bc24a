"""What is in flight on a backend, as lines for people."""

from collections.abc import Mapping, Sequence

from balancer.cli.terminal import age, printable

# A screenful; the number of the rest is enough.
LINES_MAX = 10
TARGET_CHARS_MAX = 60


def running_lines(running: Sequence[Mapping[str, object]]) -> list[str]:
    """One line an exchange, the oldest first, and how many more there are."""
    oldest = sorted(running, key=_age_s, reverse=True)
    lines = [_line(exchange) for exchange in oldest[:LINES_MAX]]
    more = len(oldest) - LINES_MAX
    return [*lines, f"  and {more} more"] if more > 0 else lines


def exchanges(count: int) -> str:
    return "1 exchange" if count == 1 else f"{count} exchanges"


def _line(exchange: Mapping[str, object]) -> str:
    target = printable(exchange.get("path", "?"))
    if len(target) > TARGET_CHARS_MAX:
        target = target[: TARGET_CHARS_MAX - 1] + "…"
    what = f"{printable(exchange.get('method', '?'))} {target}"
    if protocol := exchange.get("protocol"):
        what += f" as {printable(protocol)}"
    return f"  {what} from {printable(exchange.get('client', '?'))}, {age(_age_s(exchange))}"


def _age_s(exchange: Mapping[str, object]) -> float:
    age_s = exchange.get("age_s")
    return float(age_s) if isinstance(age_s, int | float) else 0.0
