"""`balancer reload`: let the instance read its configuration file again, and say what changed."""

import click

from balancer.cli.client import Answered, Instance, as_refused, say_done
from balancer.cli.exits import only_partly
from balancer.cli.place import admin_option


@click.command(short_help="Go by the configuration file as it is now.")
@admin_option
def reload(admin: str) -> None:
    """Let the instance read its configuration file again, and go by it from now on.

    With any error in the file nothing changes, and every error is shown; exit 1. New backends are
    probed before they replace others, for start_timeout at most. What did not change keeps its
    health, ejections, counters and connections; what was removed finishes what it runs.
    """
    instance = Instance(admin)
    try:
        say_done(instance.post_and_wait("/v1/reload"))
    except Answered as refusal:
        raise as_refused(refusal) from refusal
    except KeyboardInterrupt:
        raise only_partly("no longer waiting; the reload goes on") from None
