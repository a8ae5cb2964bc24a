"""Which instance a command speaks to: --admin, BALANCER_ADMIN, or the default place."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from balancer.cli.exits import unreachable
from balancer.core.address import why_no_socket_path

Command = TypeVar("Command", bound=Callable[..., Any])


def admin_option(command: Command) -> Command:
    """Give a command `--admin`; it arrives as the path of a socket, whichever way it was said."""
    return click.option(
        "--admin",
        metavar="SOCKET",
        callback=_socket_path,
        help="Which instance: its admin socket [env: BALANCER_ADMIN].",
    )(command)


def given_socket(ctx: click.Context, own: str | None) -> str | None:
    """What the command line or the environment names; None when neither does."""
    return socket_path(ctx, own or ctx.find_object(str) or os.environ.get("BALANCER_ADMIN"))


def socket_path(ctx: click.Context, given: str | None) -> str | None:
    """What was given, if it can be a path; a usage error where it is an address."""
    why = why_no_socket_path(given) if given else None
    if why is not None:
        raise click.UsageError(why, ctx)
    return given or None


def _socket_path(ctx: click.Context, _parameter: click.Parameter, own: str | None) -> str:
    return given_socket(ctx, own) or default_socket()


def default_socket() -> str:
    """Where an instance of this user listens; a failure where that may be somebody else's."""
    from balancer.admin.private_place import not_private
    from balancer.config.defaults import default_paths

    socket = Path(default_paths(os.environ, os.getuid()).socket)
    # The place of root is below /run, where nobody else makes a folder; it may be a service's.
    ours_alone = os.getuid() != 0 and socket.parent.is_dir()
    why = not_private(socket.parent) if ours_alone else None
    if why is not None:
        raise unreachable(f"{socket} is not trusted: {why}")
    return str(socket)
