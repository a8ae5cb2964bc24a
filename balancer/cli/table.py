"""The status as tables for people: one a pool, the reason in words, nothing lost when it is narrow."""

from collections.abc import Mapping
from typing import cast

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from balancer.cli.terminal import age, age_since, printable
from balancer.core.state_word import state_word, used_in_panic

Row = Mapping[str, object]

_STYLE = {
    "up": "green",
    "on trial": "yellow",
    "checking": "yellow",
    "weight 0": "cyan",
    "draining": "cyan",
    "maintenance": "cyan",
    "ejected": "red",
    "unhealthy": "red",
}
# What a headline tells of since the start, where there was any.
_TROUBLE = (
    ("shed", "request", "shed"),
    ("turned_away", "connection", "turned away"),
    ("connection_crashes", "connection", "crashed"),
)
# Narrower than this, the counters go and the words stay.
COUNTERS_NEED = 76
# Without a terminal, lines are as long as they are: a pipe has no edge.
PIPE_WIDTH = 400


class QuietConsole(Console):
    """A console that leaves a broken pipe to whoever runs the command."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def console() -> Console:
    """Where tables go: stdout, in colour only on a terminal that wants it."""
    found = QuietConsole(highlight=False, soft_wrap=False)
    if not found.is_terminal:
        found.width = PIPE_WIDTH
    return found


def status_tables(status: Row, *, now: float, width: int) -> RenderableType:
    """All pools of a status; `now` is wall time in seconds."""
    parts: list[RenderableType] = [_headline(status, now)]
    pools = cast("Mapping[str, Row]", status.get("pools") or {})
    for name, pool in pools.items():
        parts += [Text(), _pool_line(name, pool), _backends(pool, now=now, width=width)]
    if not pools:
        parts.append(Text("no pools"))
    parts += _certificates(status)
    return Group(*parts)


def _headline(status: Row, now: float) -> Text:
    line = Text(f"instance {printable(status.get('instance', '?'))}", style="dim")
    if "ready" in status:
        line.append(", ready" if status["ready"] else ", not ready for new traffic")
    started_s = status.get("started_s")
    if isinstance(started_s, int | float):
        line.append(f", up {age(now - started_s)}")
    workers = cast("list[Row]", status.get("workers") or [])
    if workers:
        line.append(", ").append_text(_workers(workers))
    open_now = status.get("connections")
    if isinstance(open_now, int):
        line.append(f", {_counted(open_now, 'connection')}")
    for name, noun, what in _TROUBLE:
        count = status.get(name)
        if isinstance(count, int) and count:
            line.append(f", {_counted(count, noun)} {what}", style="not dim red")
    return line


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _certificates(status: Row) -> list[RenderableType]:
    """One line for each certificate, and what keeps new ones from being used."""
    rows = cast("list[Row]", status.get("certificates") or [])
    lines: list[RenderableType] = [Text(), Text("certificates", style="bold")] if rows else []
    for row in rows:
        names = ", ".join(
            printable(name) for name in cast("list[str]", row.get("names")) or ["no name"]
        )
        style = "" if row.get("state") == "ok" else "red"
        kind = f"{printable(row['key'])}  " if "key" in row else ""
        line = Text(f"  {printable(row.get('listener'))}  {names}  {kind}")
        line.append(f"{printable(row.get('left'))}", style=style)
        line.append(f"  {printable(row.get('file'))}", style="dim")
        lines.append(line)
    if problem := status.get("certificates_problem"):
        lines.append(Text(f"  new ones are not in use: {printable(problem)}", style="red"))
    return lines


def _workers(workers: list[Row]) -> Text:
    """How many serve, and what is the matter with the others."""
    serving = sum(worker.get("state") == "serving" for worker in workers)
    if serving == len(workers):
        return Text(f"{serving} worker{'s' if serving > 1 else ''}")
    others = ", ".join(
        f"{printable(worker.get('worker'))} {printable(worker.get('state'))}"
        for worker in workers
        if worker.get("state") != "serving"
    )
    return Text(f"{serving} of {len(workers)} workers serve ({others})", style="not dim red")


def _pool_line(name: str, pool: Row) -> Text:
    rows = cast("list[Row]", pool.get("backends") or [])
    line = Text(printable(name), style="bold")
    available = f"{pool.get('available', 0)} of {len(rows)} available"
    line.append(f"  {printable(pool.get('policy', ''))}, {available}", style="not bold dim")
    if pool.get("panic"):
        line.append("  PANIC: too few are available, health is ignored", style="bold red")
    return line


def _backends(pool: Row, *, now: float, width: int) -> Table:
    counters = width >= COUNTERS_NEED
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim", show_edge=False)
    table.add_column("address", overflow="fold", min_width=9)
    table.add_column("state", overflow="fold", min_width=5)
    if counters:
        for title in ("weight", "in flight", "requests", "failures"):
            table.add_column(title, justify="right", overflow="fold")
        table.add_column("since", justify="right", overflow="fold")
    table.add_column("reason", overflow="fold", min_width=8)
    for row in cast("list[Row]", pool.get("backends") or []):
        cells: list[RenderableType] = [_address(row), _state(row, panic=bool(pool.get("panic")))]
        if counters:
            names = ("weight", "in_flight", "requests", "failures")
            cells += [Text(printable(row.get(name, ""))) for name in names]
            cells.append(Text(age_since(row.get("since"), now)))
        table.add_row(*cells, Text(printable(row.get("reason", ""))))
    return table


def _address(row: Row) -> Text:
    address = Text(printable(row.get("address", "?")))
    if row.get("origin") == "cli":
        address.append(" (cli)", style="dim")
    elif row.get("overridden"):
        address.append(" (changed by cli)", style="dim")
    return address


def _state(row: Row, *, panic: bool) -> Text:
    word = state_word(
        admin=str(row.get("admin")),
        weight=cast("int", row.get("weight", 1)),
        health=str(row.get("health")),
        ejected=bool(row.get("ejected")),
        on_trial=bool(row.get("on_trial")),
    )
    state = Text(word, style=_STYLE[word])
    if panic and used_in_panic(word):
        state.append(" (panic)", style="bold red")
    return state
