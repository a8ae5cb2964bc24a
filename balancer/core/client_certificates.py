"""What is said of a client's certificate, in field values that nobody can break out of.

The subject is written as RFC 4514 has it, with everything but plain ASCII escaped.
"""

import re
from collections.abc import Sequence

# RFC 4514 3, and what certificates have besides; any other is written out.
_SHORT = {
    "commonName": "CN",
    "countryName": "C",
    "domainComponent": "DC",
    "emailAddress": "emailAddress",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "stateOrProvinceName": "ST",
    "streetAddress": "STREET",
    "userId": "UID",
}
_SPECIAL = re.compile(r'[\\,+"<>;=]|^[ #]| \Z')
_NOT_PLAIN = re.compile(rb"[^ -~]")

Names = Sequence[Sequence[tuple[str, str]]]


def written_name(name: Names) -> bytes:
    """A distinguished name, as `ssl` tells it, most specific part first (RFC 4514 2.1)."""
    return b",".join(b"+".join(map(_attribute, parts)) for parts in reversed(name))


def _attribute(attribute: tuple[str, str]) -> bytes:
    kind, value = attribute
    escaped = _SPECIAL.sub(lambda found: "\\" + found[0], value).encode("utf-8", "replace")
    short = _SHORT.get(kind, kind).encode("utf-8", "replace")
    return _NOT_PLAIN.sub(lambda found: b"\\%02X" % found[0][0], short + b"=" + escaped)


def certificate_lines(subject: Names | None, serial: str, fingerprint: str) -> tuple[bytes, ...]:
    """What a backend is told of the certificate; `subject` is None where the client has shown none."""
    if subject is None:
        return (b"X-Client-Cert-Verify: NONE",)
    return (
        b"X-Client-Cert-Verify: SUCCESS",
        b"X-Client-Cert-Subject: " + written_name(subject),
        b"X-Client-Cert-Serial: " + serial.encode("ascii", "replace"),
        b"X-Client-Cert-Fingerprint: " + fingerprint.encode("ascii", "replace"),
    )
