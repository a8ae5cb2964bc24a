"""`balancer stop`: ask the instance to end, and wait until its process has."""

import os
import select
import socket
import time

import click

from balancer.cli.client import Answered, Fields, Instance, as_refused, peer_pid
from balancer.cli.exits import Failed, only_partly
from balancer.cli.place import admin_option

LOOK_EVERY_S = 0.1


@click.command(short_help="Stop the instance gracefully.")
@click.option("--now", is_flag=True, help="Cut what runs instead of letting it end.")
@admin_option
def stop(now: bool, admin: str) -> None:
    """Stop the instance: not ready at once, running exchanges end within shutdown_timeout.

    Returns when the process has ended. Ctrl-C only ends the waiting.
    """
    instance = Instance(admin)
    was_there = not _ended(None, admin)
    process = _process_behind(admin)
    asked = False
    try:
        try:
            answer: Fields = instance.post("/v1/stop", {"now": now})
            asked = True
            click.echo(answer.get("message", "stopping"))
        except Answered as refusal:
            raise as_refused(refusal) from refusal
        except Failed:
            # Told to end now, it may end before it answers.
            if not (was_there and _ended(process, admin)):
                raise
        while not _ended(process, admin):
            time.sleep(LOOK_EVERY_S)
    except KeyboardInterrupt:
        known = "goes on stopping" if asked else "has not answered, and may be stopping"
        raise only_partly(f"no longer waiting; the instance {known}") from None
    click.echo("stopped")


def _process_behind(path: str) -> int | None:
    """A descriptor that tells of the end of the instance's process; None where there is none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            sock.connect(path)
            pid = peer_pid(sock)
            # An instance inside this very process ends when its socket does.
            return None if pid in (0, os.getpid()) else os.pidfd_open(pid)
        except (OSError, AttributeError):  # another system or another pid namespace
            return None


def _ended(process: int | None, path: str) -> bool:
    if process is not None:
        return bool(select.select([process], [], [], 0)[0])
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        return sock.connect_ex(path) != 0
