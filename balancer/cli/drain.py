"""`balancer drain`: give a backend nothing new, and wait until nothing runs on it if asked to."""

import time
from typing import cast

import click

from balancer.cli.client import (
    Answered,
    Fields,
    Instance,
    as_refused,
    backend_path,
    say_done,
)
from balancer.cli.exits import only_partly
from balancer.cli.place import admin_option
from balancer.cli.running import exchanges, running_lines
from balancer.cli.terminal import Duration, age
from balancer.core.backend import AdminState

LOOK_EVERY_S = 0.2
# Where the operator's order still holds; elsewhere new requests arrive and a wait has no end.
_STILL_LEAVING = frozenset({AdminState.DRAINING, AdminState.MAINTENANCE, None})


@click.command(short_help="Give a backend no new requests; let running ones end.")
@click.argument("pool")
@click.argument("address")
@click.option("--wait", is_flag=True, help="Return when nothing runs on it any more.")
@click.option("--timeout", type=Duration(), help="Wait no longer than this, such as 30s; exit 4.")
@admin_option
def drain(pool: str, address: str, wait: bool, timeout: float | None, admin: str) -> None:
    """Give the backend ADDRESS of POOL no new requests; running ones end in their own time.

    It is still probed. 'balancer ready' undoes it. --timeout implies --wait.
    """
    instance = Instance(admin)
    try:
        say_done(instance.post(backend_path(pool, address, "drain")))
        if wait or timeout is not None:
            _wait(instance, pool, address, timeout)
    except Answered as refusal:
        raise as_refused(refusal) from refusal
    except KeyboardInterrupt:
        raise only_partly(f"no longer waiting; {pool} {address} goes on draining") from None


def _wait(instance: Instance, pool: str, address: str, timeout_s: float | None) -> None:
    began = time.monotonic()  # noqa: TID251 - a command has no event loop
    told: frozenset[object] | None = None
    while True:
        answer = instance.get(backend_path(pool, address, "running"))
        running = cast("list[Fields]", answer.get("running") or [])
        waited_s = time.monotonic() - began  # noqa: TID251
        if not running:
            click.echo(f"nothing runs on {pool} {address} after {age(waited_s)}")
            return
        still = "\n".join(
            [f"{exchanges(len(running))} on {pool} {address}:", *running_lines(running)]
        )
        if answer.get("admin") not in _STILL_LEAVING:
            raise only_partly(f"somebody set it to {answer['admin']}; not waiting for {still}")
        if timeout_s is not None and waited_s >= timeout_s:
            raise only_partly(f"still in flight after {timeout_s:g} s: {still}")
        ids = frozenset(exchange.get("id") for exchange in running)
        if ids != told:
            told = ids
            click.echo(f"waiting for {still}")
        time.sleep(LOOK_EVERY_S)
