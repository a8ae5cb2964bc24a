"""A client of TLS 1.3 that changes keys at will, which no library lets one do.

OpenSSL agrees on keys and tells them; from then on what is sent is written here, by RFC 8446 4.6.3,
5.2 and 7.2. What comes is read by OpenSSL as ever.
"""

import os
import ssl

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from balancer.wire.tls_socket import Coded
from tests.support.certificates import client_context

_HANDSHAKE, _DATA = b"\x16", b"\x17"
_SUITES = {
    "TLS_AES_128_GCM_SHA256": (hashes.SHA256(), 16),
    "TLS_AES_256_GCM_SHA384": (hashes.SHA384(), 32),
}


class ToldKeys:
    """A client's context, and the file in memory in which OpenSSL tells the keys."""

    def __init__(self) -> None:
        self._file = os.memfd_create("keys")
        self.context = client_context()
        self.context.minimum_version = ssl.TLSVersion.TLSv1_3
        self.context.keylog_filename = f"/proc/self/fd/{self._file}"

    def own_secret(self) -> bytes:
        """By which the client codes what it says after the handshake."""
        told = os.pread(self._file, 1 << 16, 0).decode()
        (line,) = (each for each in told.splitlines() if each.startswith("CLIENT_TRAFFIC_SECRET_0"))
        return bytes.fromhex(line.split()[2])

    def close(self) -> None:
        os.close(self._file)


class ChangedKeys:
    """Codes what a client says that has agreed on keys, and said nothing since."""

    def __init__(self, sock: Coded, told: ToldKeys) -> None:
        suite = sock.engine.cipher()
        assert suite is not None
        self._hash, self._key_bytes = _SUITES[suite[0]]
        self._secret = told.own_secret()
        self._use_keys()

    def data(self, said: bytes) -> bytes:
        """One record of data."""
        return self._record(said, _DATA)

    def change(self, *, ask: bool = True) -> bytes:
        """One change of our keys; `ask`: the peer is to change its own, and to say so."""
        record = self._record(b"\x18\0\0\1" + (b"\1" if ask else b"\0"), _HANDSHAKE)
        self._secret = self._expanded(b"traffic upd", self._hash.digest_size)
        self._use_keys()
        return record

    def half_a_change(self) -> bytes:
        """The record ends before the message does."""
        return self._record(b"\x18\0\0\1", _HANDSHAKE)

    def _use_keys(self) -> None:
        self._key = AESGCM(self._expanded(b"key", self._key_bytes))
        self._iv = self._expanded(b"iv", 12)
        self._number = 0

    def _record(self, said: bytes, kind: bytes) -> bytes:
        inner = said + kind
        nonce = int.from_bytes(self._iv) ^ self._number
        self._number += 1
        header = b"\x17\x03\x03" + (len(inner) + 16).to_bytes(2)
        return header + self._key.encrypt(nonce.to_bytes(12), inner, header)

    def _expanded(self, label: bytes, size: int) -> bytes:
        label = b"tls13 " + label
        info = size.to_bytes(2) + len(label).to_bytes(1) + label + b"\0"
        return HKDFExpand(self._hash, size, info).derive(self._secret)
