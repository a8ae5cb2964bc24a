"""What is wrong with a config file, in words and with its place.

Decides how an error reads; refuses to carry anything that a person could not act on.
"""

from dataclasses import dataclass
from typing import TypeAlias

# Where a value stands: the keys and list positions that lead to it, as tomllib gives them.
Place: TypeAlias = tuple[str | int, ...]


class Unfit(ValueError):
    """A value that cannot be used; its text says what would be right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something to say about one place. `first`: the place that this one repeats or contradicts."""

    path: Place
    message: str
    first: Place | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigError:
    """One finding with its line; `line` is None when the file itself cannot be read."""

    file: str
    line: int | None
    path: str
    message: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return ": ".join(part for part in (place, self.path, self.message) if part)


class ConfigErrors(Exception):
    """Everything that is wrong with one config, in the order of its lines."""

    def __init__(self, errors: tuple[ConfigError, ...]) -> None:
        assert errors, "a config without errors has been refused"
        super().__init__(errors)
        self.errors = errors

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)
