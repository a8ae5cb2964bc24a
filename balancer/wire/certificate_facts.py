"""What a certificate says of itself, and whether the key is its own: found by using both.

Speaks TLS with itself in memory, since `ssl` tells only of certificates that it has been shown.
"""

import ssl
from dataclasses import dataclass

from balancer.wire.tls_contexts import load_chain

# X509_V_FLAG_NO_CHECK_TIME: an old certificate tells its age, too.
_WHATEVER_THE_TIME = 0x200000
_BEGIN = b"-----BEGIN CERTIFICATE-----"
_END = b"-----END CERTIFICATE-----"
_KEY = b"PRIVATE KEY-----"
_ENCRYPTED = (b"BEGIN ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED")
_NO_KEY = "holds no private key in PEM, which begins with '-----BEGIN PRIVATE KEY-----'"
_NO_CERTIFICATE = "holds no certificate in PEM, which begins with '-----BEGIN CERTIFICATE-----'"
# Of a certificate: the tag of its version, and serial, signature, issuer, validity, subject.
_VERSION, _FIELDS_BEFORE_KEY = 0xA0, 5
_KINDS = {
    bytes.fromhex("2a864886f70d010101"): "RSA",
    bytes.fromhex("2a864886f70d01010a"): "RSA-PSS",
    bytes.fromhex("2a8648ce3d0201"): "ECDSA",
    bytes.fromhex("2b6570"): "Ed25519",
    bytes.fromhex("2b6571"): "Ed448",
}
# X509_V_ERR_INVALID_PURPOSE
_WRONG_PURPOSE = 26
_WORDS = {
    "KEY_VALUES_MISMATCH": (
        "the key does not belong to the first certificate of the file; name the key that this one was"
        " made with, and let those that vouch for it come behind it"
    ),
    "EE_KEY_TOO_SMALL": "its key is too short to be safe; RSA takes 2048 bits at least",
    "CA_KEY_TOO_SMALL": "a key in its chain is too short to be safe; take the chain of an authority of today",
    "CA_MD_TOO_WEAK": "a signature in its chain is too weak to be safe; take the chain of an authority of today",
}


class Unusable(Exception):
    """No server can be run with it; str() says why. `key`: it is the key that is wrong."""

    def __init__(self, sentence: str, *, key: bool = False) -> None:
        super().__init__(sentence)
        self.key = key


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """`names` are those of the subject's alternative names; times are seconds since 1970.

    `key`: of which kind it is, such as RSA.
    """

    names: tuple[str, ...]
    key: str
    not_before_s: float
    not_after_s: float


def facts_of(chain: bytes, key: bytes, *, of_client: bool = False) -> Facts:
    """Of a server's certificate, or of a client's. Raises Unusable."""
    leaf = _first(chain)
    if any(mark in key for mark in _ENCRYPTED):
        raise Unusable("the key is encrypted; store it decrypted, readable by us alone", key=True)
    if _KEY not in key:
        raise Unusable(_NO_KEY, key=True)
    try:
        said = _shown(chain, key, leaf, of_client=of_client)
    except ssl.SSLCertVerificationError as exc:
        raise Unusable(_refused(exc, "clients" if of_client else "servers")) from exc
    except ssl.SSLError as exc:
        mismatch = exc.reason == "KEY_VALUES_MISMATCH"
        words = _WORDS.get(exc.reason or "", f"OpenSSL cannot read it ({exc.reason or exc})")
        raise Unusable(words, key=mismatch) from exc
    return Facts(
        names=tuple(name for kind, name in _names(said) if kind in ("DNS", "IP Address")),
        key=_kind_of_key(leaf),
        not_before_s=_seconds(said["notBefore"]),
        not_after_s=_seconds(said["notAfter"]),
    )


def check_authorities(pem: bytes) -> None:
    """Whether these are certificates that can vouch for others. Raises Unusable."""
    _first(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_verify_locations(cadata=pem.decode("ascii", "replace"))
    except ssl.SSLError as exc:
        raise Unusable(f"OpenSSL cannot read it ({exc.reason or exc})") from exc
    if not context.get_ca_certs():
        raise Unusable(
            "none of its certificates is an authority's, so they vouch for nobody; name the file of who"
            " issued the others' certificates"
        )


def _first(pem: bytes) -> bytes:
    start, end = pem.find(_BEGIN), pem.find(_END)
    if start < 0 or end < start:
        raise Unusable(_NO_CERTIFICATE)
    try:
        return ssl.PEM_cert_to_DER_cert(pem[start : end + len(_END)].decode("ascii"))
    except ValueError as exc:
        raise Unusable("holds a certificate that is not whole; copy the file anew") from exc


def _shown(chain: bytes, key: bytes, leaf: bytes, *, of_client: bool) -> dict[str, object]:
    """The certificate as the other side sees it that trusts nothing but this one."""
    listener = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    load_chain(listener, chain, key)
    looks = client
    if of_client:
        load_chain(client, chain, key)
        client.verify_mode, listener.verify_mode = ssl.CERT_NONE, ssl.CERT_REQUIRED
        looks = listener
    looks.verify_flags = ssl.VerifyFlags(ssl.VERIFY_X509_PARTIAL_CHAIN | _WHATEVER_THE_TIME)
    looks.load_verify_locations(cadata=leaf)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    asks = client.wrap_bio(down, up)
    answers = listener.wrap_bio(up, down, server_side=True)
    for _ in range(4):
        for side in (asks, answers):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return dict((answers if of_client else asks).getpeercert() or {})


def _kind_of_key(certificate: bytes) -> str:
    """By RFC 5280 4.1, of a certificate that OpenSSL has understood."""
    at, _ = _element(certificate, _element(certificate, 0)[0])
    for _ in range(_FIELDS_BEFORE_KEY + (certificate[at] == _VERSION)):
        _, at = _element(certificate, at)
    algorithm, _ = _element(certificate, _element(certificate, at)[0])
    start, end = _element(certificate, algorithm)
    return _KINDS.get(certificate[start:end], "other")


def _element(der: bytes, at: int) -> tuple[int, int]:
    """Where the content of the element of DER at that place begins, and where it ends."""
    size, start = der[at + 1], at + 2
    if size & 0x80:
        start += size & 0x7F
        size = int.from_bytes(der[at + 2 : start])
    return start, start + size


def _refused(exc: ssl.SSLCertVerificationError, whose: str) -> str:
    why = f"nobody would take it from {whose}: {exc.verify_message}"
    return f"{why}; have one issued for {whose}" if exc.verify_code == _WRONG_PURPOSE else why


def _names(said: dict[str, object]) -> tuple[tuple[str, str], ...]:
    names = said.get("subjectAltName", ())
    assert isinstance(names, tuple)
    return names


def _seconds(when: object) -> float:
    return float(ssl.cert_time_to_seconds(str(when)))
