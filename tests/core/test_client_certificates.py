"""What backends are told of a client's certificate: nobody breaks out of a field by a name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.client_certificates import certificate_lines, written_name
from balancer.core.field_names import CERTIFICATE

ALICE = (
    (("countryName", "DE"),),
    (("organizationName", "Example, Inc."),),
    (("commonName", "alice"), ("userId", "7")),
)


@pytest.mark.parametrize(
    ("name", "written"),
    [
        (ALICE, b"CN=alice+UID=7,O=Example\\, Inc.,C=DE"),
        (((("commonName", " a"),),), b"CN=\\ a"),
        (((("commonName", "a "),),), b"CN=a\\ "),
        (((("commonName", '#a;<b>="\\+'),),), b'CN=\\#a\\;\\<b\\>\\=\\"\\\\\\+'),
        (((("commonName", "Zoë\r\nX: y\x00"),),), b"CN=Zo\\C3\\AB\\0D\\0AX: y\\00"),
        (((("1.2.3.4", "x"),),), b"1.2.3.4=x"),
        ((), b""),
    ],
)
def test_a_subject_is_written_as_rfc_4514_has_it(
    name: tuple[tuple[tuple[str, str], ...], ...], written: bytes
) -> None:
    assert written_name(name) == written


@given(st.lists(st.lists(st.tuples(st.text(max_size=5), st.text(max_size=9)), max_size=2)))
def test_it_is_always_plain_text(name: list[list[tuple[str, str]]]) -> None:
    assert all(0x20 <= byte <= 0x7E for byte in written_name(name))


def test_what_is_said_is_removed_from_what_clients_send() -> None:
    lines = certificate_lines(ALICE, "0A", "ff" * 32)
    assert {line.partition(b":")[0].lower() for line in lines} == CERTIFICATE
    assert certificate_lines(None, "", "") == (b"X-Client-Cert-Verify: NONE",)
