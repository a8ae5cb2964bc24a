"""`balancer run`: settings from a file or from the command line, then an instance in this process."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from balancer.cli.exits import refused
from balancer.cli.place import given_socket, socket_path

if TYPE_CHECKING:
    from balancer.config.load import ParsedConfig


@click.command(short_help="Run the balancer in the foreground.")
@click.argument("config", required=False, type=click.Path(path_type=Path))
@click.option("--listen", metavar="HOST:PORT", help="Where clients connect.")
@click.option("--to", multiple=True, metavar="HOST:PORT", help="A backend; may be repeated.")
@click.option(
    "--admin",
    metavar="SOCKET",
    help="Where commands reach it, whatever CONFIG says. BALANCER_ADMIN counts without CONFIG only.",
)
@click.option("--state", metavar="FILE", help="Keep run-time changes here; else they are not kept.")
@click.pass_context
def run(
    ctx: click.Context,
    config: Path | None,
    listen: str | None,
    to: tuple[str, ...],
    admin: str | None,
    state: str | None,
) -> None:
    """Run the balancer on a CONFIG file, or without a file from --listen and --to.

    It stays in the foreground. TERM and INT let running exchanges end within shutdown_timeout (one
    more: now), QUIT without limit. HUP reloads CONFIG, USR1 reopens logs, USR2 upgrades.

    \b
    Examples:
      balancer run edge.toml
      balancer run --listen 127.0.0.1:8080 --to 127.0.0.1:9001 --to 127.0.0.1:9002
    """  # noqa: D301 - \b is click's
    if config is not None:
        _refuse_mix(ctx, listen, to, state)
        socket = socket_path(ctx, admin or ctx.find_object(str))
        parsed = _from_file(config)
        source = str(config.absolute())
    else:
        if not listen or not to:
            raise click.UsageError("give a CONFIG file, or --listen and at least one --to", ctx)
        parsed = _from_targets(listen, to)
        source = " ".join(["--listen", listen, *(f"--to {address}" for address in to)])
        socket = given_socket(ctx, admin)
    parsed = _with_places(parsed, socket=socket, state=state)

    from balancer.supervisor.process import run_instance

    def load() -> "ParsedConfig":
        from balancer.config.load import read_file

        assert config is not None
        return _with_places(read_file(config, os.environ), socket=socket, state=state)

    sys.exit(run_instance(parsed, source=source, load=load if config else None))


def _refuse_mix(
    ctx: click.Context, listen: str | None, to: tuple[str, ...], state: str | None
) -> None:
    given = {"--listen": listen, "--to": to, "--state": state}
    mixed = [name for name, value in given.items() if value]
    if mixed:
        names = " and ".join(mixed)
        raise click.UsageError(f"CONFIG and {names} exclude each other: put it into the file", ctx)


def _from_file(config: Path) -> "ParsedConfig":
    from balancer.config.errors import ConfigErrors
    from balancer.config.load import read_file

    try:
        return read_file(config, os.environ)
    except ConfigErrors as errors:
        raise refused(f"{config} is not valid; nothing was started\n{errors}") from errors
    except OSError as error:
        raise refused(f"cannot read {config}: {error.strerror or error}") from error


def _from_targets(listen: str, to: tuple[str, ...]) -> "ParsedConfig":
    from balancer.config.errors import ConfigErrors
    from balancer.config.load import from_targets, without_file

    try:
        return without_file(from_targets(listen, to), "--listen")
    except ConfigErrors as errors:
        raise refused(str(errors)) from errors


def _with_places(
    parsed: "ParsedConfig", *, socket: str | None, state: str | None
) -> "ParsedConfig":
    places = {name: value for name, value in (("socket", socket), ("state", state)) if value}
    if not places:
        return parsed
    admin = parsed.settings.admin.model_copy(update=places)
    return replace(parsed, settings=parsed.settings.model_copy(update={"admin": admin}))
