"""The commands that change one backend and return when the change is durable: all but `drain`."""

import re
from collections.abc import Callable
from typing import Any

import click

from balancer.cli.client import Answered, Fields, Instance, as_refused, backend_path, say_done
from balancer.cli.exits import only_partly, refused
from balancer.cli.place import admin_option
from balancer.cli.running import running_lines
from balancer.core.ledger import WEIGHT_MAX

_DIGITS = re.compile(r"[0-9]{1,9}")


class Weight(click.ParamType[int]):
    """A backend's share of new requests."""

    name = "weight"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """A whole number; a usage error says which ones there are."""
        text = str(value)
        if not _DIGITS.fullmatch(text) or int(text) > WEIGHT_MAX:
            said = f"a weight is a whole number from 0 to {WEIGHT_MAX}, not {text!r}"
            self.fail(said, param, ctx)
        return int(text)


@click.command(short_help="Add a backend to a pool.")
@click.argument("pool")
@click.argument("address")
@click.option("--weight", type=Weight(), help=f"Its share of new requests, 0 to {WEIGHT_MAX}.")
@admin_option
def add(pool: str, address: str, weight: int | None, admin: str) -> None:
    """Add the backend ADDRESS to POOL; it takes requests once its first probe has passed.

    ADDRESS is HOST:PORT, [IPV6]:PORT or unix:PATH. Adding what is there already changes nothing.
    """
    fields: Fields = {"address": address}
    if weight is not None:
        fields["weight"] = weight
    _change(lambda: Instance(admin).post(backend_path(pool), fields))


@click.command(short_help="Undo drain or maintenance.")
@click.argument("pool")
@click.argument("address")
@admin_option
def ready(pool: str, address: str, admin: str) -> None:
    """Let the backend ADDRESS of POOL take requests again, as soon as it is healthy."""
    _change(lambda: Instance(admin).post(backend_path(pool, address, "ready")))


@click.command(short_help="Give a backend neither requests nor probes.")
@click.argument("pool")
@click.argument("address")
@admin_option
def maintenance(pool: str, address: str, admin: str) -> None:
    """Give the backend ADDRESS of POOL no new requests and no probes; running ones may end."""
    _change(lambda: Instance(admin).post(backend_path(pool, address, "maintenance")))


# A negative number is to be told what is wrong with it, and not that there is no such option.
@click.command(
    short_help="Change a backend's share of new requests.",
    context_settings={"ignore_unknown_options": True},
)
@click.argument("pool")
@click.argument("address")
@click.argument("weight", type=Weight())
@admin_option
def weight(pool: str, address: str, weight: int, admin: str) -> None:
    """Set the WEIGHT of the backend ADDRESS of POOL, 0 to 1000; 0 takes no new requests."""
    _change(lambda: Instance(admin).post(backend_path(pool, address, "weight"), {"weight": weight}))


@click.command(short_help="Take a backend out of its pool.")
@click.argument("pool")
@click.argument("address")
@click.option("--force", is_flag=True, help="Even if that cuts what is in flight.")
@admin_option
def remove(pool: str, address: str, force: bool, admin: str) -> None:
    """Take the backend ADDRESS out of POOL; refused while work is in flight on it."""
    query = "?force" if force else ""
    _change(lambda: Instance(admin).delete(backend_path(pool, address) + query))


def _change(command: Callable[[], Fields]) -> Any:
    try:
        answer = command()
    except Answered as refusal:
        cut = refusal.fields.get("running")
        if not isinstance(cut, list) or not cut:
            raise as_refused(refusal) from refusal
        raise refused("\n".join([f"{refusal}:", *running_lines(cut)])) from refusal
    except KeyboardInterrupt:
        raise only_partly("no longer waiting; ask 'balancer status' what was done") from None
    say_done(answer)
