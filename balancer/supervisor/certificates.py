"""The certificates in force: loaded with the configuration and whenever their files change.

Decides when files are looked at, that a change is taken whole or not at all, and when an operator is
warned that one expires. What makes a file useless is for `certificate_files`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

import trio

from balancer.config.settings import Settings
from balancer.core.expiry import Concern, concern, left_in_words
from balancer.supervisor.certificate_files import (
    NOTHING,
    CertificatesUnusable,
    Loaded,
    load_certificates,
    read_file,
    stamp_of,
    stamps_of,
)
from balancer.supervisor.certificate_reading import Held
from balancer.supervisor.events import EventKind, EventLog

# How often files are looked at, and how often the calendar.
LOOK_S = 5.0
CALENDAR_S = 3600.0
# A disk that hangs is not waited for any longer.
LOAD_S_MAX = 10.0


class Files(Protocol):
    """The disk, as certificates need it."""

    async def load(self, settings: Settings) -> Loaded:
        """All certificates of these settings. CertificatesUnusable."""
        ...

    async def stamps(self, settings: Settings) -> Mapping[str, object]:
        """Of each file what is another after a change."""
        ...


class DiskFiles:
    """Read in a thread: a disk may be slow, and keys take their time."""

    async def load(self, settings: Settings) -> Loaded:
        return await trio.to_thread.run_sync(
            load_certificates, settings, read_file, stamp_of, abandon_on_cancel=True
        )

    async def stamps(self, settings: Settings) -> Mapping[str, object]:
        return await trio.to_thread.run_sync(stamps_of, settings, stamp_of, abandon_on_cancel=True)


@dataclass(frozen=True, slots=True)
class Source:
    """Where certificates come from, and what was there when the settings were read."""

    loaded: Loaded = NOTHING
    files: Files = field(default_factory=DiskFiles)


class Certificates:
    """`changed` has every worker told of them."""

    def __init__(
        self, settings: Settings, source: Source, events: EventLog, wall: Callable[[], float]
    ) -> None:
        self.loaded = loaded = source.loaded
        self.problem: str | None = None
        self.changed: Callable[[], None] = lambda: None
        self._settings = settings
        self._files = source.files
        self._events = events
        self._wall = wall
        self._seen = self._tried = loaded.stamps
        self._told: dict[str, Concern] = {}

    async def load(self, settings: Settings) -> Loaded:
        """What the files hold now. CertificatesUnusable; trio.TooSlowError."""
        with trio.fail_after(LOAD_S_MAX):
            return await self._files.load(settings)

    def use(self, settings: Settings, loaded: Loaded) -> None:
        """Go by these from now on; without waiting."""
        self._settings, self.loaded, self.problem = settings, loaded, None
        self._seen = self._tried = loaded.stamps
        self._warn()

    async def watch(self) -> None:
        """Look at the files and at the calendar, until cancelled."""
        self._warn()
        looked_at = trio.current_time()
        while True:
            await self._look()
            await trio.sleep(LOOK_S)
            if trio.current_time() - looked_at >= CALENDAR_S:
                looked_at = trio.current_time()
                self._warn()

    async def _look(self) -> None:
        """Take up what has changed and lies still: a certificate comes before its key, or after."""
        settings = self._settings
        if not self.loaded.stamps:
            return
        stamps: Mapping[str, object] | None = None
        with trio.move_on_after(LOAD_S_MAX):
            stamps = await self._files.stamps(settings)
        if stamps is None or settings is not self._settings:
            return
        still, self._seen = stamps == self._seen, stamps
        if still and stamps != self._tried:
            before, self._tried = self._tried, stamps
            await self._renew(settings, [path for path in stamps if stamps[path] != before[path]])

    async def _renew(self, settings: Settings, paths: list[str]) -> None:
        try:
            loaded = await self.load(settings)
        except (CertificatesUnusable, trio.TooSlowError) as exc:
            if settings is self._settings:
                self.problem = str(exc) or f"they could not be read within {LOAD_S_MAX:g} s"
                self._events.add(EventKind.CERTIFICATES_KEPT, cause=self.problem)
            return
        if settings is not self._settings:
            return
        had_problem, self.problem = self.problem is not None, None
        changed = f"{', '.join(paths)} changed"
        if loaded.content != self.loaded.content:
            self.loaded = loaded
            self.changed()
            self._events.add(EventKind.CERTIFICATES_LOADED, cause=changed)
            self._warn()
        elif had_problem:
            same = "all files can be used again, and hold what is in use"
            self._events.add(EventKind.CERTIFICATES_LOADED, cause=changed, effect=same)

    def _warn(self) -> None:
        """Tell of each file once how near its end is, and again when it is nearer."""
        now = self._wall()
        told, self._told = self._told, {}
        for held in self.loaded.held:
            left_s = held.facts.not_after_s - now
            worst = concern(left_s)
            if worst.rank > self._told.get(held.path, told.get(held.path, Concern.NONE)).rank:
                names = ", ".join(held.facts.names) or "no name"
                cause = f"{held.path} ({names}) {left_in_words(left_s)}"
                who = "backends" if held.of_client else "clients"
                when = "now" if worst is Concern.EXPIRED else "once it has expired"
                effect = f"{who} refuse it {when}"
                self._events.add(EventKind.CERTIFICATE_EXPIRES, cause=cause, effect=effect)
            self._told[held.path] = worst

    def status(self) -> list[Mapping[str, object]]:
        """Each certificate, for people and programs."""
        now = self._wall()
        return [_row(held, now) for held in self.loaded.held]


def _row(held: Held, now: float) -> Mapping[str, object]:
    left_s = held.facts.not_after_s - now
    return {
        "listener": held.owner,
        "file": held.path,
        "names": list(held.facts.names),
        "key": held.facts.key,
        "expires": _date(held.facts.not_after_s),
        "expires_s": held.facts.not_after_s,
        "state": concern(left_s).value,
        "left": left_in_words(left_s),
    }


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
