"""Certificates and keys, read from their files and checked, all of a config or none.

Decides what there is to read; when that is done, and what becomes of it, is for `certificates`.
"""

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from balancer.config.errors import ConfigErrors, Finding
from balancer.config.load import ParsedConfig
from balancer.config.settings import Settings
from balancer.config.tls_settings import BackendTls, ListenerTls
from balancer.config.wording import dotted
from balancer.supervisor.certificate_reading import (
    Held,
    Read,
    Reading,
    backend_rules,
    listener_rules,
)
from balancer.wire.backend_tls import BackendTlsRules
from balancer.wire.tls_contexts import TlsRules

# A certificate with its whole chain takes 10 KiB; all authorities of the web 250.
FILE_BYTES_MAX = 1024 * 1024
# Who else may read a key may be us.
OTHERS_READ = 0o004

Stamp: TypeAlias = Callable[[str], object]


class CertificatesUnusable(Exception):
    """Each finding names a setting, and says what is wrong with its file."""

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        super().__init__(findings)
        self.findings = findings

    def __str__(self) -> str:
        return "\n".join(f"{dotted(each.path)}: {each.message}" for each in self.findings)

    def in_lines_of(self, config: ParsedConfig) -> ConfigErrors:
        """The same as what else is wrong with a config, each with its line."""
        return ConfigErrors(config.placed(self.findings))


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """All that the files of a config hold. `stamps`: of the files as they were.

    `rules` by listener; `backends` by the settings that they are made of.
    """

    rules: Mapping[str, TlsRules]
    backends: Mapping[BackendTls, BackendTlsRules]
    held: tuple[Held, ...]
    stamps: Mapping[str, object]

    @property
    def content(self) -> object:
        """What is another one once something has changed for anybody."""
        return self.rules, self.backends

    def backend_rules(self, tls: BackendTls | None) -> BackendTlsRules | None:
        """What a pool with these settings goes by."""
        return None if tls is None else self.backends[tls]


NOTHING = Loaded(rules={}, backends={}, held=(), stamps={})


def load_certificates(settings: Settings, read: Read, stamp: Stamp) -> Loaded:
    """Read and check all of them. CertificatesUnusable tells everything that is wrong."""
    stamps = stamps_of(settings, stamp)
    findings: list[Finding] = []
    rules: dict[str, TlsRules] = {}
    backends: dict[BackendTls, BackendTlsRules] = {}
    held: list[Held] = []
    for at, listener in enumerate(settings.listeners):
        if listener.tls is None:
            continue
        reading = Reading(listener.bind, ("listeners", at, "tls"), read)
        made = listener_rules(reading, listener.tls)
        findings += reading.findings
        held += reading.held
        if made is not None:
            rules[listener.bind] = made
    for name, pool in settings.pools.items():
        if pool.tls is None:
            continue
        reading = Reading(f"pool {name}", ("pools", name, "tls"), read)
        known = backend_rules(reading, pool.tls)
        findings += reading.findings
        held += reading.held
        if known is not None:
            backends[pool.tls] = known
    if findings:
        raise CertificatesUnusable(tuple(findings))
    return Loaded(rules=rules, backends=backends, held=tuple(held), stamps=stamps)


def stamps_of(settings: Settings, stamp: Stamp) -> Mapping[str, object]:
    """Of every file that TLS depends on, what is another once it has changed."""
    tables = [listener.tls for listener in settings.listeners]
    shown = [pool.tls for pool in settings.pools.values()]
    named = [path for tls in (*tables, *shown) if tls is not None for path in _paths(tls)]
    return {path: stamp(path) for path in named if path is not None}


def _paths(tls: ListenerTls | BackendTls) -> Iterator[str | None]:
    if isinstance(tls, BackendTls):
        yield from (tls.ca, tls.certificate, tls.key)
        return
    for each in tls.certificates:
        yield from (each.certificate, each.key)
    yield tls.client_ca


def read_file(path: str) -> bytes:
    """A regular file, whole; whatever it is, this does not wait for it. OSError."""
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(number, "rb") as file:
        found = os.fstat(number)
        if not stat.S_ISREG(found.st_mode):
            raise OSError("it is no file")
        data = file.read(FILE_BYTES_MAX + 1)
    if len(data) > FILE_BYTES_MAX:
        raise OSError(f"it is longer than {FILE_BYTES_MAX >> 20} MiB")
    return data


def stamp_of(path: str) -> object:
    """What differs once a file has been written anew or replaced."""
    try:
        found = os.stat(path)
    except OSError as exc:
        return exc.errno
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def readable_by_all(path: str) -> bool:
    try:
        return bool(os.stat(path).st_mode & OTHERS_READ)
    except OSError:
        return False
