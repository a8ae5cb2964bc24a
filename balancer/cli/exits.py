"""How a command ends: the exit codes of the contract, and the exceptions that lead to them."""

from enum import IntEnum

import click

from balancer.cli.terminal import printable


class Exit(IntEnum):
    """What the shell is told. 2 (usage) is click's own."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    UNREACHABLE = 3
    PARTLY = 4


class Failed(click.ClickException):
    """Ends the command with a sentence on stderr and an exit code."""

    def __init__(self, message: str, code: Exit) -> None:
        super().__init__(message)
        self.code = code

    @property
    def exit_code(self) -> int:  # type: ignore[override]
        """What click ends the process with."""
        return self.code

    def show(self, file: object = None) -> None:  # noqa: ARG002 - click's signature
        """Say it on stderr, without click's "Error:": the sentence is whole."""
        lines = (printable(line) for line in self.message.split("\n"))
        click.echo("balancer: " + "\n".join(lines), err=True)


def refused(sentence: str) -> Failed:
    return Failed(sentence, Exit.REFUSED)


def unreachable(sentence: str) -> Failed:
    return Failed(sentence, Exit.UNREACHABLE)


def only_partly(sentence: str) -> Failed:
    return Failed(sentence, Exit.PARTLY)
