"""A config file into settings, or into everything that is wrong with it at once.

Refuses half a config: either settings that are right in every place, or ConfigErrors, one line
each, sorted as the file is. Nothing else is raised, whatever the bytes.
"""

import os
import pathlib
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from balancer.config.cross_checks import cross_checks
from balancer.config.defaults import default_paths
from balancer.config.errors import ConfigError, ConfigErrors, Finding, Place
from balancer.config.explain import findings_of
from balancer.config.locate import Lines, locate, unclosed
from balancer.config.settings import Settings
from balancer.config.variables import expand
from balancer.config.wording import dotted, printable

# Ten thousand backends fit in one; what is larger is some other file.
FILE_BYTES_MAX = 4 * 1024 * 1024

# What tomllib says, where its words need the grammar at hand.
_PLAINER = (
    (r"cannot overwrite a value", "this key is given twice"),
    (r"cannot declare \((.*?),?\) twice", r"the table \1 is declared twice"),
    (r"cannot mutate immutable namespace .*", "this key is given twice"),
    (r"cannot (?:define|redefine) .*", "this table is written in two ways"),
    (r"invalid value", "expected a value here; text needs quotes"),
    (r"invalid statement", "expected a key or a [table] here"),
    (r"invalid initial character for a key part", "expected a key here"),
    (r"expected newline or end of document after a statement", "expected the line to end here"),
    (r"expected '=' after a key in a key/value pair", "expected '=' after the key"),
    (r"expected \"(.)\"", r"expected \1 here"),
    (r"unescaped '\\' in a string", r"a '\\' in \"…\" begins an escape; write '\\\\', or use '…'"),
)
_AT = re.compile(r"\(at (?:line (\d+), column (\d+)|end of document)\)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedConfig:
    """Settings with the lines they came from; `name` is that of the file in messages."""

    name: str
    settings: Settings
    lines: Lines

    def placed(self, findings: Iterable[Finding]) -> tuple[ConfigError, ...]:
        """The findings with their lines, in the order of the file."""
        return _placed(self.name, self.lines, findings)


def load_file(path: pathlib.Path, env: Mapping[str, str]) -> Settings:
    """The settings in a file. Raises ConfigErrors, and nothing else."""
    return read_file(path, env).settings


def load_text(text: str, name: str, env: Mapping[str, str]) -> Settings:
    """The settings in a text; `name` stands for the file in messages. Raises ConfigErrors."""
    return read_text(text, name, env).settings


def without_file(settings: Settings, name: str) -> ParsedConfig:
    """Settings that have come from nowhere with lines."""
    return ParsedConfig(name=name, settings=settings, lines=Lines({}))


def from_targets(listen: str, to: Sequence[str], env: Mapping[str, str] | None = None) -> Settings:
    """The settings of `run --listen LISTEN --to …`: one pool, no file, and no state kept."""
    data = {
        "listeners": [{"bind": listen}],
        "pools": {"web": {"backends": list(to)}},
        "admin": {"state": ""},
    }
    settings, findings = _settings(data, os.environ if env is None else env)
    if settings is None:
        raise ConfigErrors(tuple(_of_option(each) for each in findings))
    return settings


def read_file(path: pathlib.Path, env: Mapping[str, str]) -> ParsedConfig:
    """As `load_file`, with what is needed to say more about the file."""
    name = printable(str(path))
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        raise _unreadable(name, "there is no such file") from None
    except IsADirectoryError:
        raise _unreadable(name, "this is a folder; name the file in it") from None
    except PermissionError:
        raise _unreadable(name, "may not be read by this user") from None
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or str(exc)
        raise _unreadable(name, f"cannot be read: {reason}") from None
    if len(content) > FILE_BYTES_MAX:
        raise _unreadable(name, f"is larger than {FILE_BYTES_MAX >> 20} MiB; is it a config?")
    try:
        return read_text(content.decode("utf-8"), name, env)
    except UnicodeDecodeError as exc:
        line = content.count(b"\n", 0, exc.start) + 1
        message = f"byte 0x{content[exc.start]:02x} is no UTF-8; save the file as UTF-8"
        raise _unreadable(name, message, line) from None


def read_text(text: str, name: str, env: Mapping[str, str]) -> ParsedConfig:
    """As `load_text`, with what is needed to say more about the text."""
    data = _parsed(text, name)
    lines = locate(text)
    expanded, unset = expand(data, env)
    settings, refused = _settings(expanded, env)
    # What follows from a variable that is not set would only hide that it is not set.
    follow_ups = {each.path for each in unset}
    findings = unset + [each for each in refused if not _below(each.path, follow_ups)]
    if settings is None or findings:
        raise ConfigErrors(_placed(name, lines, findings))
    return ParsedConfig(name=name, settings=settings, lines=lines)


def _parsed(text: str, name: str) -> dict[str, object]:
    if text.startswith("\ufeff"):
        message = "begins with a byte order mark; save the file as UTF-8 without one"
        raise _unreadable(name, message, 1)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise _unreadable(name, *_syntax(str(exc), text)) from None
    except RecursionError:
        raise _unreadable(name, "not valid TOML: brackets are nested too deeply", 1) from None
    except ValueError:  # a number beyond what Python turns into one
        raise _unreadable(name, "not valid TOML: a number has too many digits", 1) from None


def _syntax(message: str, text: str) -> tuple[str, int]:
    found = _AT.search(message)
    said = message[: found.start()].strip() if found else message
    said = said[:1].lower() + said[1:]
    for theirs, ours in _PLAINER:
        plainer, count = re.subn(f"^{theirs}$", ours, said)
        if count:
            said = plainer
            break
    if found and found[1]:
        return f"not valid TOML: {said} (column {found[2]})", int(found[1])
    opened = unclosed(text)
    if opened is not None:
        return f"not valid TOML: {said}: what begins on this line has no end", opened
    return f"not valid TOML: {said} (at the end of the file)", text.rstrip().count("\n") + 1


def _settings(data: object, env: Mapping[str, str]) -> tuple[Settings | None, list[Finding]]:
    """Either the settings and nothing to say, or what is wrong."""
    complete = _with_default_paths(data, env)
    contradictions = list(cross_checks(complete))
    try:
        settings = Settings.model_validate(complete)
    except ValidationError as exc:
        return None, findings_of(exc, data) + contradictions
    return (None if contradictions else settings), contradictions


def _with_default_paths(data: object, env: Mapping[str, str]) -> object:
    admin = data.get("admin", {}) if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(admin, dict):
        return data
    paths = default_paths(env, os.getuid())
    completed = {"socket": paths.socket, "state": paths.state} | admin
    if completed["state"] == "":
        del completed["state"]
    return data | {"admin": completed}


def _below(path: Place, places: set[Place]) -> bool:
    return any(path[: len(place)] == place for place in places)


def _placed(name: str, lines: Lines, findings: Iterable[Finding]) -> tuple[ConfigError, ...]:
    errors = [_at_line(name, lines, each) for each in findings]
    return tuple(sorted(dict.fromkeys(errors), key=lambda error: error.line or 0))


def _at_line(name: str, lines: Lines, finding: Finding) -> ConfigError:
    path, message = finding.path, finding.message
    if finding.first is not None:
        message += f" (line {lines.of(finding.first)})"
    # An unknown key is told of the table that it stands in.
    shown_path = path[:-1] if message.startswith("unknown key ") else path
    return ConfigError(file=name, line=lines.of(path), path=dotted(shown_path), message=message)


def _of_option(finding: Finding) -> ConfigError:
    option = "--listen" if finding.path[:1] == ("listeners",) else "--to"
    return ConfigError(file=option, line=None, path="", message=finding.message)


def _unreadable(name: str, message: str, line: int | None = None) -> ConfigErrors:
    return ConfigErrors((ConfigError(file=name, line=line, path="", message=message),))
