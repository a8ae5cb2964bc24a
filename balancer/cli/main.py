"""The `balancer` command: which subcommands there are. Imports none of them until one is called."""

import click

from balancer.cli.lazy_group import LazyCommand, LazyGroup

_CHANGE = "balancer.cli.change"

COMMANDS = {
    "run": LazyCommand("balancer.cli.run", "run", "Run the balancer in the foreground."),
    "check": LazyCommand("balancer.cli.check", "check", "Check a configuration file."),
    "status": LazyCommand("balancer.cli.status", "status", "Show pools and backends."),
    "add": LazyCommand(_CHANGE, "add", "Add a backend to a pool."),
    "drain": LazyCommand(
        "balancer.cli.drain", "drain", "Give a backend no new requests; let running ones end."
    ),
    "ready": LazyCommand(_CHANGE, "ready", "Undo drain or maintenance."),
    "maintenance": LazyCommand(
        _CHANGE, "maintenance", "Give a backend neither requests nor probes."
    ),
    "weight": LazyCommand(_CHANGE, "weight", "Change a backend's share of new requests."),
    "remove": LazyCommand(_CHANGE, "remove", "Take a backend out of its pool."),
    "reload": LazyCommand(
        "balancer.cli.reload", "reload", "Go by the configuration file as it is now."
    ),
    "upgrade": LazyCommand(
        "balancer.cli.upgrade", "upgrade", "Replace the running program by the one installed now."
    ),
    "stop": LazyCommand("balancer.cli.stop", "stop", "Stop the instance gracefully."),
    "events": LazyCommand("balancer.cli.events", "events", "Show what changed, and why."),
    "config": LazyCommand("balancer.cli.config", "config", "Print the schema or the result."),
}

HELP = """An active-active HTTP load balancer with health checking.

Every command but run, check and config speaks to a running instance through its admin socket:
--admin SOCKET, or BALANCER_ADMIN, or the default place.

Exit codes: 0 done, 1 refused or invalid, 2 usage, 3 instance not reachable, 4 only partly done.
"""

EXAMPLES = """\b
Examples:
  balancer run --listen 127.0.0.1:8080 --to 127.0.0.1:9001 --to 127.0.0.1:9002
  balancer status --watch
  balancer drain web 127.0.0.1:9001 --wait --timeout 30s
"""


def _version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"balancer {version('balancer')}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    help=HELP,
    epilog=EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option("--admin", metavar="SOCKET", help="Which instance: its admin socket.")
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_version,
    help="Show the version and exit.",
)
@click.pass_context
def main(ctx: click.Context, admin: str | None) -> None:
    ctx.obj = admin
