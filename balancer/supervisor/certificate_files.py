"""Certificates and keys, read from their files and checked, all of a config or none.

Decides what of a file makes it useless to a listener; what is made of it is for `certificates`.
"""

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from balancer.config.errors import Finding, Place
from balancer.config.settings import Settings
from balancer.config.tls_settings import Certificate, ListenerTls
from balancer.config.wording import dotted
from balancer.wire.certificate_facts import Facts, Unusable, check_authorities, facts_of
from balancer.wire.tls_contexts import Credentials, Terminator, TlsRules

# A certificate with its whole chain takes 10 KiB; all authorities of the web 250.
FILE_BYTES_MAX = 1024 * 1024
# Who else may read a key may be us.
OTHERS_READ = 0o004

Read: TypeAlias = Callable[[str], bytes]
"""The bytes of a file; OSError."""
Stamp: TypeAlias = Callable[[str], object]


class CertificatesUnusable(Exception):
    """Each finding names a setting, and says what is wrong with its file."""

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        super().__init__(findings)
        self.findings = findings

    def __str__(self) -> str:
        return "\n".join(f"{dotted(each.path)}: {each.message}" for each in self.findings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One certificate of a listener, and where it comes from."""

    bind: str
    path: str
    key_path: str
    place: Place
    facts: Facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """All that the files of a config hold; rules by listener. `stamps`: of the files as they were."""

    rules: Mapping[str, TlsRules]
    held: tuple[Held, ...]
    stamps: Mapping[str, object]


NOTHING = Loaded(rules={}, held=(), stamps={})


def load_certificates(settings: Settings, read: Read, stamp: Stamp) -> Loaded:
    """Read and check all of them. CertificatesUnusable tells everything that is wrong."""
    stamps = stamps_of(settings, stamp)
    findings: list[Finding] = []
    rules: dict[str, TlsRules] = {}
    held: list[Held] = []
    for at, listener in enumerate(settings.listeners):
        if listener.tls is None:
            continue
        reading = _Reading(listener.bind, ("listeners", at, "tls"), read)
        made = reading.rules(listener.tls)
        findings += reading.findings
        held += reading.held
        if made is not None:
            rules[listener.bind] = made
    if findings:
        raise CertificatesUnusable(tuple(findings))
    return Loaded(rules=rules, held=tuple(held), stamps=stamps)


def stamps_of(settings: Settings, stamp: Stamp) -> Mapping[str, object]:
    """Of every file that TLS with clients depends on, what is another once it has changed."""
    return {
        path: stamp(path)
        for listener in settings.listeners
        if listener.tls is not None
        for path in _paths(listener.tls)
    }


def _paths(tls: ListenerTls) -> Iterator[str]:
    for each in tls.certificates:
        yield each.certificate
        yield each.key or each.certificate
    if tls.client_ca is not None:
        yield tls.client_ca


class _Reading:
    """One listener's files."""

    def __init__(self, bind: str, place: Place, read: Read) -> None:
        self.bind = bind
        self.place = place
        self.findings: list[Finding] = []
        self.held: list[Held] = []
        self._read = read

    def rules(self, tls: ListenerTls) -> TlsRules | None:
        """What the files and the settings say together; None where something is wrong."""
        made = [self._credentials(at, each) for at, each in enumerate(tls.certificates)]
        authorities = b""
        if tls.client_ca is not None:
            authorities = self._authorities(tls.client_ca)
        if self.findings:
            return None
        rules = TlsRules(
            certificates=tuple(each for each in made if each is not None),
            at_least_1_3=tls.minimum_version == "1.3",
            refuse_unknown=tls.unknown_name == "refuse",
            client_auth=tls.client_auth,
            client_ca=authorities,
            handshake_s=tls.handshake_timeout,
        )
        Terminator(rules)  # what a worker will make of it
        return rules

    def _credentials(self, at: int, certificate: Certificate) -> Credentials | None:
        place = (*self.place, "certificates", at)
        chain = self._contents(certificate.certificate, (*place, "certificate"))
        key, key_place = chain, (*place, "certificate")
        if certificate.key is not None:
            key_place = (*place, "key")
            key = self._contents(certificate.key, key_place)
        if chain is None or key is None:
            return None
        try:
            facts = facts_of(chain, key)
        except Unusable as exc:
            path = (certificate.key or certificate.certificate) if exc.key else None
            where = key_place if exc.key else (*place, "certificate")
            self._wrong(where, path or certificate.certificate, str(exc))
            return None
        path, key_path = certificate.certificate, certificate.key or certificate.certificate
        self.held.append(
            Held(bind=self.bind, path=path, key_path=key_path, place=place, facts=facts)
        )
        return Credentials(names=facts.names, chain=chain, key=key)

    def _authorities(self, path: str) -> bytes:
        place = (*self.place, "client_ca")
        pem = self._contents(path, place)
        if pem is not None:
            try:
                check_authorities(pem)
            except Unusable as exc:
                self._wrong(place, path, str(exc))
        return pem or b""

    def _contents(self, path: str, place: Place) -> bytes | None:
        try:
            return self._read(path)
        except OSError as exc:
            self._wrong(place, path, f"cannot be read: {exc.strerror or exc}")
            return None

    def _wrong(self, place: Place, path: str, why: str) -> None:
        self.findings.append(Finding(path=place, message=f"{path}: {why}"))


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
