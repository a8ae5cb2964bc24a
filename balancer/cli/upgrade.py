"""`balancer upgrade`: let the program that is installed now take over from the one that runs."""

import click

from balancer.cli.client import Answered, Instance, as_refused, say_done
from balancer.cli.exits import only_partly
from balancer.cli.place import admin_option


@click.command(short_help="Replace the running program by the one installed now.")
@admin_option
def upgrade(admin: str) -> None:
    """Replace the running program by the one that is installed now, without losing a connection.

    The new one reads the configuration and probes its pools before it takes over. If it does not
    come up, the old one goes on serving and says why; exit 1.
    """
    instance = Instance(admin)
    try:
        say_done(instance.post_and_wait("/v1/upgrade"))
    except Answered as refusal:
        raise as_refused(refusal) from refusal
    except KeyboardInterrupt:
        raise only_partly("no longer waiting; the upgrade goes on") from None
