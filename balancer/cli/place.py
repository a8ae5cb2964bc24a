"""Which instance a command speaks to: --admin, BALANCER_ADMIN, or the default place."""

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

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
    from balancer.config.defaults import default_paths

    return default_paths(os.environ, os.getuid()).socket
