"""Contexts for connections of clients: protocol, ciphers, certificates by name, client certificates.

Decides what Mozilla's intermediate profile leaves open, and nothing about who may do what. Keys come
as bytes and touch no disk.
"""

import hashlib
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from balancer.core.client_certificates import certificate_lines
from balancer.core.server_names import ServerNames, host_of, with_same_names
from balancer.wire.tls_engine import Engine

# https://ssl-config.mozilla.org, intermediate, but for those that need Diffie-Hellman parameters.
CIPHERS = ":".join(
    (
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-CHACHA20-POLY1305",
    )
)
ALPN = ("http/1.1",)
# So many answers to the same question are kept; clients choose the questions.
SERVED_MAX = 1024
# A longer name is nobody's (RFC 1035 2.3.4), and 1,024 as long as a head may be would be 64 MiB.
SERVED_CHARS_MAX = 255 + len(":65535")

ClientAuth: TypeAlias = Literal["off", "optional", "required"]
_VERIFY = {
    "off": ssl.CERT_NONE,
    "optional": ssl.CERT_OPTIONAL,
    "required": ssl.CERT_REQUIRED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A certificate with those that vouch for it, and its key, as PEM; `names` it is for."""

    names: tuple[str, ...]
    chain: bytes
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsRules:
    """How TLS is spoken at one listener; the first certificate is for whoever names no known name.

    Those that have the same names have keys of different kinds, and are for the same clients.
    """

    certificates: tuple[Credentials, ...]
    at_least_1_3: bool = False
    refuse_unknown: bool = False
    client_auth: ClientAuth = "off"
    client_ca: bytes = b""
    handshake_s: float = 10.0


class Terminator:
    """The contexts of one listener, as its rules have it; what was begun by them ends by them.

    As long as it lives, sessions are resumed by it.
    """

    def __init__(self, rules: TlsRules) -> None:
        self.rules = rules
        names = [credentials.names for credentials in rules.certificates]
        entries = [[rules.certificates[at] for at in entry] for entry in with_same_names(names)]
        self._contexts = [_context(rules, entry) for entry in entries]
        self._names = ServerNames([entry[0].names for entry in entries])
        self._served: dict[tuple[int, str], bool] = {}
        self._places = {id(context): at for at, context in enumerate(self._contexts)}
        self.context = self._contexts[0]
        self.context.sni_callback = self._choose

    def _choose(
        self, sock: ssl.SSLSocket | ssl.SSLObject, name: str | None, _: ssl.SSLContext
    ) -> int | None:
        found = None if name is None else self._names.find(name)
        if found is not None:
            sock.context = self._contexts[found]
        elif name is not None and self.rules.refuse_unknown:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        return None

    def chosen(self, context: ssl.SSLContext) -> int:
        """The certificate by which a connection went on, or the two of which one was shown."""
        return self._places[id(context)]

    def serves(self, at: int, host: str) -> bool:
        """Whether a request for this host belongs on a connection with that certificate.

        Where another certificate would be the right one it does not; where none is for that host, it
        may, unless client certificates are asked for.
        """
        key = at, host
        found = self._served.get(key)
        if found is None:
            found = self._is_served(at, host_of(host))
            if len(self._served) >= SERVED_MAX:
                self._served.clear()
            if len(host) <= SERVED_CHARS_MAX:
                self._served[key] = found
        return found

    def _is_served(self, at: int, name: str) -> bool:
        if self._names.covers(at, name):
            return True
        return self._names.find(name) is None and self.rules.client_auth == "off"

    def told_of(self, engine: Engine) -> tuple[bytes, ...]:
        """The lines that tell a backend of the client's certificate, where one was asked for."""
        if self.rules.client_auth == "off":
            return ()
        shown = engine.getpeercert(True)
        said = engine.getpeercert(False) or {}
        if shown is None:
            return certificate_lines(None, "", "")
        fingerprint = hashlib.sha256(shown).hexdigest()
        subject = said.get("subject", ())
        return certificate_lines(subject, str(said.get("serialNumber", "")), fingerprint)


def _context(rules: TlsRules, entry: list[Credentials]) -> ssl.SSLContext:
    """OpenSSL shows the one whose key the client can verify; ECDSA, which costs less, if it can both."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    newest = ssl.TLSVersion.TLSv1_3
    context.minimum_version = newest if rules.at_least_1_3 else ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_SINGLE_ECDH_USE
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(ALPN)
    for credentials in entry:
        load_chain(context, credentials.chain, credentials.key)
    # OpenSSL takes the demand from the listener's first context and the trust from the chosen one.
    context.verify_mode = _VERIFY[rules.client_auth]
    if rules.client_ca:
        context.load_verify_locations(cadata=rules.client_ca.decode("ascii", "replace"))
    return context


def load_chain(context: ssl.SSLContext, chain: bytes, key: bytes) -> None:
    """Give `context` a certificate and its key. ssl.SSLError."""
    with _as_file(chain + b"\n" + key) as path:
        context.load_cert_chain(path, password=_refused)


def _refused() -> str:
    raise ValueError("the key is encrypted")


@contextmanager
def _as_file(data: bytes) -> Iterator[str]:
    """The path of a file in memory, because `ssl` reads certificates from files only."""
    number = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        os.write(number, data)
        yield f"/proc/self/fd/{number}"
    finally:
        os.close(number)
