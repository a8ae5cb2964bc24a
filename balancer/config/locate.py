"""On which line of a TOML text each key and list element stands.

Takes only text that tomllib has accepted, so it splits into tokens and checks nothing. One pass,
no recursion; a place that it does not know is answered with the nearest place around it.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field

from balancer.config.errors import Place

# Deeper than any setting; dotted keys of ten thousand parts must not cost their square in memory.
PATH_DEPTH_MAX = 40

_TOKEN = re.compile(
    r"""
      (?P<newline>\n)
    | (?P<skip>[ \t\r]+|\#[^\n]*)
    | (?P<string>\"{3}(?:[^"\\]|\\[\s\S]|"(?!""))*+\"{3,5}
               | '{3}(?:[^']|'(?!''))*+'{3,5}
               | "(?:[^"\\\n]|\\.)*+"
               | '[^'\n]*+')
    | (?P<mark>[\[\]{},=.])
    | (?P<bare>[^\s\[\]{},=.#"']+)
    """,
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Lines:
    """Line numbers by place, from 1."""

    by_path: Mapping[Place, int]

    def of(self, path: Place) -> int:
        """The line of the place, or of the nearest known place around it."""
        while path and path not in self.by_path:
            path = path[:-1]
        return self.by_path.get(path, 1)


def locate(text: str) -> Lines:
    """Find every key and list element of a valid TOML text."""
    walk = _Walk()
    for found in _TOKEN.finditer(text):
        kind, token = str(found.lastgroup), found.group()
        if kind == "newline":
            walk.end_of_line()
        elif kind == "mark":
            walk.mark(token)
        elif kind != "skip":
            walk.word(kind, token)
        walk.line += token.count("\n")
    return Lines(walk.lines)


def unclosed(text: str) -> int | None:
    """In a text that ends too early: the line where its innermost open bracket or string begins."""
    open_brackets: list[int] = []
    line, end = 1, 0
    for found in _TOKEN.finditer(text):
        if found.start() != end:
            break
        token, end = found.group(), found.end()
        if token in ("[", "{"):
            open_brackets.append(line)
        elif token in ("]", "}") and open_brackets:
            open_brackets.pop()
        line += token.count("\n")
    if end < len(text):
        return line
    return open_brackets[-1] if open_brackets else None


@dataclass(slots=True)
class _Container:
    """An open array or inline table, and the place it is the value of. `at`: next position."""

    path: Place
    array: bool
    at: int = 0


@dataclass(slots=True)
class _Walk:
    """Where the reading stands: under which header, in which open containers, at a key or value."""

    line: int = 1
    lines: dict[Place, int] = field(default_factory=dict)
    header: Place = ()
    tables_in: dict[Place, int] = field(default_factory=dict)  # arrays of tables: how many so far
    key: list[str] = field(default_factory=list)
    value_of: Place | None = None  # the place whose value comes next
    opened: list[_Container] = field(default_factory=list)
    brackets: int = 0  # of the header being read

    def end_of_line(self) -> None:
        if not self.opened:
            self.key, self.value_of, self.brackets = [], None, 0

    def word(self, kind: str, token: str) -> None:
        """A string or bare run: part of a key, or of a value (whose first token counts)."""
        if self._in_value():
            self._value_starts()
        else:
            self.key.append(_unquoted(token) if kind == "string" else token)

    def mark(self, token: str) -> None:
        if token == "=":
            self._key_ends()
        elif token in "[{":
            self._opens(token)
        elif token in "]}":
            self._closes()
        elif token == ",":
            self._next_in_container()

    def _in_value(self) -> bool:
        return self.value_of is not None or bool(self.opened and self.opened[-1].array)

    def _key_ends(self) -> None:
        base = self.opened[-1].path if self.opened else self.header
        self.value_of = self._recorded(base, self.key)
        self.key = []

    def _opens(self, token: str) -> None:
        if self._in_value():
            self._value_starts()
            path = self.value_of or ()
            self.opened.append(_Container(path, array=token == "["))
            self.value_of = None
        else:
            self.brackets += 1

    def _closes(self) -> None:
        if self.opened:
            # What follows on this line can only close or part containers, never be a key.
            self.value_of = self.opened.pop().path
            self.key = []
        elif self.key:
            self._header_ends()

    def _next_in_container(self) -> None:
        if self.opened:
            self.value_of = None
            self.opened[-1].at += 1

    def _value_starts(self) -> None:
        """An element of an array gets its place at its first token."""
        if self.value_of is None and self.opened:
            array = self.opened[-1]
            self.value_of = self._kept((*array.path, array.at))

    def _header_ends(self) -> None:
        *around, last = self.key
        base = self._recorded((), around, through_tables=True)
        self.header = self._kept((*base, last))
        if self.brackets > 1:
            self.lines.setdefault(self.header, self.line)
            position = self.tables_in.get(self.header, 0)
            self.tables_in[self.header] = position + 1
            self.header = self._kept((*self.header, position))
        # A table may be named only by what is under it before its own header comes.
        self.lines[self.header] = self.line
        self.key = []

    def _recorded(self, base: Place, keys: list[str], *, through_tables: bool = False) -> Place:
        """The place of a dotted key, with the line of each part that is new."""
        for part in keys:
            base = self._kept((*base, part))
            self.lines.setdefault(base, self.line)
            if through_tables and base in self.tables_in:
                base = self._kept((*base, self.tables_in[base] - 1))
        return base

    def _kept(self, path: Place) -> Place:
        path = path[:PATH_DEPTH_MAX]
        self.lines.setdefault(path, self.line)
        return path


def _unquoted(token: str) -> str:
    return str(tomllib.loads(f"key = {token}")["key"])
