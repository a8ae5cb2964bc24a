"""A click group that knows its commands by name and help, and imports one only when it is called."""

import errno
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import click

from balancer.cli.exits import Exit, only_partly

# A full disk, or one that is broken, behind `balancer status > FILE`.
UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})


@dataclass(frozen=True, slots=True)
class LazyCommand:
    """Where a command lives, and its short help; a test holds the two to be the same."""

    module: str
    attribute: str
    short_help: str

    def load(self) -> click.Command:
        command = getattr(import_module(self.module), self.attribute)
        assert isinstance(command, click.Command)
        return command


class LazyGroup(click.Group):
    """Lists commands in the order given; colour and what cannot be written are settled here for all."""

    def __init__(self, *args: Any, lazy: Mapping[str, LazyCommand], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        known = self.lazy.get(cmd_name)
        return None if known is None else known.load()

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, with did-you-mean over commands that are not imported."""
        name = str(args[0])
        if name not in self.lazy and not name.startswith("-"):
            raise click.exceptions.NoSuchCommand(name, possibilities=list(self.lazy), ctx=ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, known.short_help) for name, known in self.lazy.items()])

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """As click's; the help and the version are written in here."""
        with _output_settled():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        # https://no-color.org; click does not look at it
        if os.environ.get("NO_COLOR"):
            ctx.color = False
        open_standard_streams()
        with _output_settled():
            result = super().invoke(ctx)
            sys.stdout.flush()
        return result


@contextmanager
def _output_settled() -> Iterator[None]:
    """End quietly where the reader has enough, and in words where the output cannot be written."""
    try:
        yield
    except BrokenPipeError:
        _write_nowhere()  # `balancer events | head`
        raise click.exceptions.Exit(Exit.DONE) from None
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        _write_nowhere()
        why = os.strerror(error.errno or 0)
        raise only_partly(f"cannot write the output: {why}; what was to be done is done") from error


def open_standard_streams() -> None:
    """Have something behind each of 0, 1 and 2, also where the caller has closed them.

    Or the next file or socket that is opened would get what is written there.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - until the end


def _write_nowhere() -> None:
    """Let what is still buffered go nowhere, or Python would complain about it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
