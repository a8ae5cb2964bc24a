"""`balancer events`: what changed, why, and what followed; one line a change."""

import json
from collections.abc import Iterable

import click

from balancer.cli.client import Answered, Fields, Gone, Instance, as_refused
from balancer.cli.exits import unreachable
from balancer.cli.place import admin_option
from balancer.cli.terminal import printable

# Enough to see what led here before the first new line comes.
SHOWN_BEFORE_FOLLOWING = 10

_COLOUR = {
    "backend.healthy": "green",
    "backend.returned": "green",
    "pool.recovered": "green",
    "backend.on_trial": "yellow",
    "backend.unhealthy": "red",
    "backend.ejected": "red",
    "pool.panic": "red",
}


@click.command(short_help="Show what changed, and why.")
@click.option("--follow", is_flag=True, help="Go on with each change as it happens, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@admin_option
def events(follow: bool, as_json: bool, admin: str) -> None:
    """Show the changes that the instance remembers: time, kind, cause and effect.

    With --follow, the last few and then each new one; ends with exit code 3 when the instance goes.
    """
    instance = Instance(admin)
    try:
        kept = list(instance.lines("/v1/events", endless=False))
        if not follow:
            _show(kept, as_json=as_json)
            return
        shown = kept[-SHOWN_BEFORE_FOLLOWING:]
        _show(shown, as_json=as_json)
        last = shown[-1].get("seq", 0) if shown else 0
        path = f"/v1/events?follow=1&since={last}"
        _show(instance.lines(path, endless=True), as_json=as_json)
    except Answered as refusal:
        raise as_refused(refusal) from refusal
    except Gone as gone:
        raise unreachable(f"the instance at {instance.path} has gone") from gone
    except KeyboardInterrupt:
        return


def _show(changes: Iterable[Fields], *, as_json: bool) -> None:
    for change in changes:
        if as_json:
            click.echo(json.dumps(change, ensure_ascii=False))
        elif "missed" in change:
            click.echo(f"({change['missed']} changes before this are no longer kept)")
        else:
            kind = printable(change.get("kind", "?"))
            shown = click.style(f"{kind:<18}", fg=_COLOUR.get(kind))
            sentence = printable(change.get("sentence", ""))
            click.echo(f"{printable(change.get('at', ''))} {shown} {sentence}")
