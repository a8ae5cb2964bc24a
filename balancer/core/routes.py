"""Which pool a request goes to, by host and path prefix.

The first route that matches wins. Refuses to choose where a backend might read the path in another
way than this table does and that reading belongs to another route: then a rule in front of one
route could be walked around through another.
"""

import ipaddress
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import unquote

from balancer.core.wording import shown


class RouteRule(Protocol):
    """What a route says: an optional host (`*.` in front stands for labels), a prefix, a pool."""

    @property
    def host(self) -> str | None: ...
    @property
    def path(self) -> str: ...
    @property
    def pool(self) -> str: ...


@dataclass(frozen=True, slots=True)
class NoRoute:
    """Nothing matches; `reason` says what was looked for."""

    reason: str


@dataclass(frozen=True, slots=True)
class AmbiguousPath:
    """Two readings of the path belong to two routes; `reason` names both."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compiled:
    """A route ready to be compared; prefixes without their last slash, so "/" is empty."""

    host: str | None
    suffix: str | None
    literal: str
    decoded: str
    rule: RouteRule

    def takes_host(self, host: str | None) -> bool:
        if self.host is not None:
            return host == self.host
        if self.suffix is not None:
            # The suffix begins with its dot, and a host does not: so something stands in front.
            return host is not None and host.endswith(self.suffix)
        return True


class RouteTable:
    """The routes in their order; never changes."""

    def __init__(self, routes: Iterable[RouteRule]) -> None:
        self._routes = [_compiled(rule) for rule in routes]
        self._asks_host = any(route.rule.host is not None for route in self._routes)
        self._asks_path = any(route.literal for route in self._routes)
        asks = self._asks_host or self._asks_path
        self._only = self._routes[0].rule.pool if self._routes and not asks else None

    def match(self, host: bytes | str | None, target: str) -> str | NoRoute | AmbiguousPath:
        """The pool for a request; `target` in origin form or `*`, `host` as received.

        Query and fragment say nothing about the pool. A host that is missing or junk matches only
        routes that do not ask for one.
        """
        if self._only is not None:
            return self._only  # the first route takes everything
        name = normal_host(host) if self._asks_host and host is not None else None
        path = _path_of(target)
        found = self._first(name, path, decoded=False)
        if self._asks_path and _SUSPECT.search(path) is not None:
            if len(path) > READ_CHARS_MAX and _STRUCTURE.search(_decode(path)) is not None:
                return AmbiguousPath(
                    f"a path longer than {READ_CHARS_MAX} characters has empty or dot segments, "
                    "parameters or backslashes"
                )
            for reading, decoded in _readings(path):
                other = self._first(name, reading, decoded=decoded)
                if other is not found:
                    return AmbiguousPath(
                        f"the path may be read as {shown(path)} ({_meaning(found)}) "
                        f"or as {shown(reading)} ({_meaning(other)})"
                    )
        if found is None:
            at = f" at {name}" if name is not None else ""
            return NoRoute(f"no route leads to {shown(path)}{at}")
        return found.rule.pool

    def _first(self, host: str | None, path: str, *, decoded: bool) -> _Compiled | None:
        for route in self._routes:
            prefix = route.decoded if decoded else route.literal
            if (
                path.startswith(prefix)
                # Whole segments: what follows the prefix is nothing or begins with a slash.
                and path[len(prefix) : len(prefix) + 1] in _SEGMENT_ENDS
                and route.takes_host(host)
            ):
                return route
        return None


def normal_host(host: bytes | str) -> str | None:
    """A Host in the form that is compared: lower case, no port, no root dot, IPv6 compressed.

    None for anything that is not a host; never raises.
    """
    text = host.decode("latin-1") if isinstance(host, bytes) else host
    parts = _HOST.fullmatch(text)
    if parts is None:
        return None
    if parts["ip6"] is not None:
        try:
            return ipaddress.IPv6Address(parts["ip6"]).compressed
        except ValueError:
            return None
    return parts["name"].lower()


_HOST = re.compile(
    r"(?:\[(?P<ip6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*)\.?)(?::[0-9]*)?"
)
_SEGMENT_ENDS = ("", "/")
# Reading a path in every way costs some ten passes over it. Nobody may have us do that for a head
# of 64 KiB; long escaped names (one character of Chinese takes nine) have none of this structure.
READ_CHARS_MAX = 4096
_ESCAPE_IN_LOWER_CASE = re.compile(r"%(?:[a-f][0-9A-Fa-f]|[0-9A-F][a-f])")
# What makes a second reading possible: backslashes, empty and dot segments, parameters; and escapes.
_STRUCTURE = re.compile(r"\\|//|;|/\.\.?(?:/|\Z)")
_SUSPECT = re.compile(rf"%|{_STRUCTURE.pattern}")
# To Java's servers they are no part of the path: /admin;x is /admin.
_PARAMETERS = re.compile(r";[^/]*")
_MANY_SLASHES = re.compile(r"//+")


def _compiled(rule: RouteRule) -> _Compiled:
    literal = _upper_escapes(_escape_non_ascii(rule.path)).rstrip("/")
    host = suffix = None
    if rule.host is not None and rule.host.startswith("*."):
        suffix = "." + _route_host(rule.host[2:])
    elif rule.host is not None:
        host = _route_host(rule.host)
    return _Compiled(host=host, suffix=suffix, literal=literal, decoded=_decode(literal), rule=rule)


def _route_host(host: str) -> str:
    """The host of a route; one that can never match stays as it is and never does."""
    bracketed = f"[{host}]" if host.count(":") > 1 and not host.startswith("[") else host
    return normal_host(bracketed) or host


def _path_of(target: str) -> str:
    if target == "*":  # OPTIONS about the whole of a host (RFC 9110 9.3.7)
        return "/"
    path = target.partition("?")[0].partition("#")[0]
    return _upper_escapes(path) if "%" in path else path


def _readings(path: str) -> Iterator[tuple[str, bool]]:
    """Every other way in which a backend may read a path, and whether escapes are gone in it.

    Backslashes may be slashes, empty segments and parameters may not count, dots may be resolved,
    escapes may be undone, in any order. Escapes are undone once: who undoes them twice serves other paths anyway.
    """
    known = {(path, False)}
    rest = [(path, False)]
    while rest:
        text, decoded = rest.pop()
        others = [] if decoded or "%" not in text else [(_decode(text), True)]
        if _STRUCTURE.search(text) is not None:
            others += [
                (text.replace("\\", "/"), decoded),
                (_MANY_SLASHES.sub("/", text), decoded),
                (_resolve_dots(text), decoded),
                (_PARAMETERS.sub("", text), decoded),
            ]
        for other in others:
            if other not in known:
                known.add(other)
                rest.append(other)
                yield other


def _resolve_dots(path: str) -> str:
    """Remove dot segments (RFC 3986 5.2.4); above the root is the root."""
    kept: list[str] = []
    for segment in path.split("/")[1:]:
        if segment not in (".", ".."):
            kept.append(segment)
        elif segment == ".." and kept:
            kept.pop()
    return "/" + "/".join(kept)


def _decode(path: str) -> str:
    """Escapes undone, each to the character of its byte, so that nothing can fail."""
    return unquote(path, encoding="latin-1")


def _escape_non_ascii(path: str) -> str:
    return "".join(c if c.isascii() else "".join(f"%{b:02X}" for b in c.encode()) for c in path)


def _upper_escapes(path: str) -> str:
    # %c3 and %C3 are the same (RFC 3986 6.2.2.1); no reading differs by that.
    return _ESCAPE_IN_LOWER_CASE.sub(lambda found: found[0].upper(), path)


def _meaning(found: _Compiled | None) -> str:
    return "no route" if found is None else f"route {found.rule.path} to pool {found.rule.pool}"
