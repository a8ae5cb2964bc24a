"""`balancer status`: pools and backends once, or again and again."""

import json
import time

import click

from balancer.cli.client import Answered, Fields, Instance, as_refused, quoted
from balancer.cli.exits import Exit, Failed
from balancer.cli.place import admin_option

EVERY_S = 1.0


@click.command(short_help="Show pools and backends.")
@click.argument("pool", required=False)
@click.option("--json", "as_json", is_flag=True, help="The whole status as JSON.")
@click.option("--watch", is_flag=True, help="Once a second, until Ctrl-C; survives restarts.")
@admin_option
def status(pool: str | None, as_json: bool, watch: bool, admin: str) -> None:
    """Show every pool with its backends, or one POOL: state, work and the reason in words.

    (cli) marks a backend that was added or changed at run time.
    """
    instance = Instance(admin)
    if watch:
        try:
            _watch(instance, pool, as_json=as_json)
        except KeyboardInterrupt:
            return
    seen = _seen(instance, pool)
    if as_json:
        click.echo(json.dumps(seen, indent=2, ensure_ascii=False))
        return
    from balancer.cli.table import console, status_tables

    out = console()
    out.print(status_tables(seen, now=time.time(), width=out.width))


def _watch(instance: Instance, pool: str | None, *, as_json: bool) -> None:
    if as_json:
        _lines(instance, pool)
    from balancer.cli.table import console

    out = console()
    if out.is_terminal:
        _live(instance, pool)
    while True:
        click.echo(time.strftime("%H:%M:%S"))
        out.print(_picture(instance, pool, out.width))
        out.print()
        time.sleep(EVERY_S)


def _lines(instance: Instance, pool: str | None) -> None:
    """One JSON object a line; while the instance is away, one that says so."""
    while True:
        seen: Fields
        try:
            seen = _seen(instance, pool)
        except Failed as failure:
            _stop_unless_away(failure)
            seen = {"unreachable": failure.message}
        click.echo(json.dumps(seen, ensure_ascii=False))
        time.sleep(EVERY_S)


def _live(instance: Instance, pool: str | None) -> None:
    from rich.live import Live

    from balancer.cli.table import console

    out = console()
    with Live(console=out, auto_refresh=False, vertical_overflow="ellipsis") as live:
        while True:
            live.update(_picture(instance, pool, out.width), refresh=True)  # type: ignore[arg-type]
            time.sleep(EVERY_S)


def _picture(instance: Instance, pool: str | None, width: int) -> object:
    from rich.text import Text

    from balancer.cli.table import status_tables

    try:
        return status_tables(_seen(instance, pool), now=time.time(), width=width)
    except Failed as failure:
        _stop_unless_away(failure)
        return Text(f"not reachable, retrying: {failure.message}", style="yellow")


def _stop_unless_away(failure: Failed) -> None:
    if failure.code is not Exit.UNREACHABLE:
        raise failure


def _seen(instance: Instance, pool: str | None) -> Fields:
    query = "" if pool is None else f"?pool={quoted(pool)}"
    try:
        return instance.get(f"/v1/status{query}")
    except Answered as refusal:
        raise as_refused(refusal) from refusal
