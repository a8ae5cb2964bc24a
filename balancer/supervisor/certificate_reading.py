"""What files of certificates and keys hold for those who go by them, or what is wrong with them.

Decides what makes a file useless to a listener, or to a pool that shows it to its backends.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from balancer.config.errors import Finding, Place
from balancer.config.tls_settings import BackendTls, Certificate, ListenerTls
from balancer.config.wording import dotted
from balancer.core.server_names import with_same_names
from balancer.wire.backend_tls import BackendTlsRules, backend_context
from balancer.wire.certificate_facts import Facts, Unusable, check_authorities, facts_of
from balancer.wire.tls_contexts import Credentials, Terminator, TlsRules

Read: TypeAlias = Callable[[str], bytes]
"""The bytes of a file; OSError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One certificate, and where it comes from. `owner`: a listener, or a pool that shows it."""

    owner: str
    path: str
    key_path: str
    place: Place
    facts: Facts
    of_client: bool


class Reading:
    """The files of one table of the config; what is wrong with them is in `findings`."""

    def __init__(self, owner: str, place: Place, read: Read) -> None:
        self.owner = owner
        self.place = place
        self.findings: list[Finding] = []
        self.held: list[Held] = []
        self._read = read

    def credentials(
        self, certificate: Certificate | BackendTls, below: Place = (), *, of_client: bool = False
    ) -> Credentials | None:
        """A certificate and its key; `below`: where in the table. None: there is none, or it is wrong."""
        if certificate.certificate is None:
            return None
        place = (*self.place, *below)
        chain = self._contents(certificate.certificate, (*place, "certificate"))
        key, key_place = chain, (*place, "certificate")
        if certificate.key is not None:
            key_place = (*place, "key")
            key = self._contents(certificate.key, key_place)
        if chain is None or key is None:
            return None
        try:
            facts = facts_of(chain, key, of_client=of_client)
        except Unusable as exc:
            path = (certificate.key or certificate.certificate) if exc.key else None
            where = key_place if exc.key else (*place, "certificate")
            self._wrong(where, path or certificate.certificate, str(exc))
            return None
        path, key_path = certificate.certificate, certificate.key or certificate.certificate
        self.held.append(
            Held(
                owner=self.owner,
                path=path,
                key_path=key_path,
                place=place,
                facts=facts,
                of_client=of_client,
            )
        )
        return Credentials(names=facts.names, chain=chain, key=key)

    def authorities(self, path: str, key: str) -> bytes:
        """Those of a file that the setting `key` names."""
        place = (*self.place, key)
        pem = self._contents(path, place)
        if pem is not None:
            try:
                check_authorities(pem)
            except Unusable as exc:
                self._wrong(place, path, str(exc))
        return pem or b""

    def held_once(self) -> None:
        """Of those with the same names there may be one of each kind of key, and no second."""
        for entry in with_same_names([held.facts.names for held in self.held]):
            first: dict[str, Held] = {}
            for held in (self.held[at] for at in entry):
                before = first.setdefault(held.facts.key, held)
                if before is not held:
                    why = (
                        f"has the same names and the same kind of key ({held.facts.key}) as another, so"
                        " nobody would be shown it; keep one, or have one with an RSA key and one with an"
                        f" ECDSA key; the other is {dotted(before.place)}"
                    )
                    place = (*held.place, "certificate")
                    self._wrong(place, held.path, why, first=(*before.place, "certificate"))

    def _contents(self, path: str, place: Place) -> bytes | None:
        try:
            return self._read(path)
        except OSError as exc:
            why = f"cannot be read: {exc.strerror or exc}"
            if isinstance(exc, PermissionError):
                why += f"; let user {os.geteuid()} read it, as whom balancer runs"
            elif not os.path.isabs(path):
                why += f"; it is looked for from {os.getcwd()}, where balancer was started"
            self._wrong(place, path, why)
            return None

    def _wrong(self, place: Place, path: str, why: str, first: Place | None = None) -> None:
        self.findings.append(Finding(path=place, message=f"{path}: {why}", first=first))


def listener_rules(reading: Reading, tls: ListenerTls) -> TlsRules | None:
    """What a listener goes by; None where something is wrong."""
    made = [
        reading.credentials(each, ("certificates", at)) for at, each in enumerate(tls.certificates)
    ]
    authorities = b""
    if tls.client_ca is not None:
        authorities = reading.authorities(tls.client_ca, "client_ca")
    reading.held_once()
    if reading.findings:
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


def backend_rules(reading: Reading, tls: BackendTls) -> BackendTlsRules | None:
    """What a pool goes by; None where something is wrong."""
    shown = reading.credentials(tls, of_client=True)
    authorities = None if tls.ca is None else reading.authorities(tls.ca, "ca")
    if reading.findings:
        return None
    rules = BackendTlsRules(
        authorities=authorities, server_name=tls.server_name, verify=tls.verify, shown=shown
    )
    backend_context(rules)  # what a worker will make of it
    return rules
