"""Who asks, and what the backend is told of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.forwarding import Hop, client_of, forwarding_fields, request_id_of
from balancer.core.message import RequestHead
from balancer.core.trust import trusting

TRUSTS = trusting(("10.0.0.0/8", "fd00::/8"))
PEER = "10.0.0.1"


def head(*fields: tuple[bytes, bytes]) -> RequestHead:
    return RequestHead(method="GET", target="/", minor=1, fields=fields)


def asked_by(*chain: bytes, peer: str = PEER) -> str:
    return client_of(head(*((b"X-Forwarded-For", value) for value in chain)), peer, TRUSTS)


@pytest.mark.parametrize(
    ("chain", "client"),
    [
        ((), "10.0.0.1"),
        ((b"",), "10.0.0.1"),
        ((b"192.0.2.7",), "192.0.2.7"),
        ((b"6.6.6.6, 192.0.2.7",), "192.0.2.7"),
        ((b"6.6.6.6", b"192.0.2.7"), "192.0.2.7"),
        ((b"192.0.2.7", b""), "192.0.2.7"),
        ((b"6.6.6.6, 192.0.2.7, 10.0.0.9",), "192.0.2.7"),
        ((b"6.6.6.6, 192.0.2.7, 10.0.0.9,10.0.0.8 , fd00::2",), "192.0.2.7"),
        ((b"10.0.0.3, 10.0.0.2",), "10.0.0.3"),
        ((b"2001:DB8:0::7",), "2001:db8::7"),
        ((b"[2001:db8::7]",), "2001:db8::7"),
        ((b"[2001:db8::7]:443",), "2001:db8::7"),
        ((b"192.0.2.7:51000",), "192.0.2.7"),
        ((b"::ffff:192.0.2.7",), "192.0.2.7"),
        ((b"192.0.2.7, ::ffff:10.0.0.2",), "192.0.2.7"),
        ((b"6.6.6.6, unknown",), "10.0.0.1"),
        ((b"6.6.6.6, unknown, 10.0.0.2",), "10.0.0.2"),
        ((b"6.6.6.6, 192.0.2.07",), "10.0.0.1"),
        ((b"6.6.6.6, fe80::1%<script>",), "10.0.0.1"),
        ((b"6.6.6.6, 192.0.2.7:x",), "10.0.0.1"),
        ((b"6.6.6.6, \xb2",), "10.0.0.1"),
        ((b"6.6.6.6 192.0.2.7",), "10.0.0.1"),
    ],
)
def test_the_client_is_the_last_who_is_no_trusted_proxy(
    chain: tuple[bytes, ...], client: str
) -> None:
    """What is no address, and all that stands before it, was not written by one who is trusted."""
    assert asked_by(*chain) == client


def test_a_stranger_is_the_client_whatever_he_says() -> None:
    assert asked_by(b"192.0.2.7", peer="203.0.113.1") == "203.0.113.1"


@pytest.mark.parametrize(
    ("fields", "client"),
    [
        (((b"X-Real-IP", b"192.0.2.7"),), "192.0.2.7"),
        (((b"X-Real-IP", b"192.0.2.7"), (b"X-Real-IP", b"6.6.6.6")), "192.0.2.7"),
        (((b"X-Real-IP", b"10.0.0.4"),), "10.0.0.4"),
        (((b"X-Real-IP", b"nobody"),), "10.0.0.1"),
        (((b"X-Real-IP", b"6.6.6.6"), (b"X-Forwarded-For", b"192.0.2.7")), "192.0.2.7"),
    ],
)
def test_a_proxy_that_tells_one_address_only_is_believed_too(
    fields: tuple[tuple[bytes, bytes], ...], client: str
) -> None:
    assert client_of(head(*fields), PEER, TRUSTS) == client


ADDRESSES = st.ip_addresses(v=4).map(str)
TRUSTED = st.ip_addresses(v=4, network="10.0.0.0/8").map(str)


@given(st.lists(ADDRESSES, max_size=5), st.lists(TRUSTED, max_size=5), ADDRESSES)
def test_no_claim_of_a_client_changes_who_it_is(
    claims: list[str], proxies: list[str], client: str
) -> None:
    """Each proxy appends whom it heard: whatever the client wrote stands before that."""
    chain = ", ".join([*claims, client, *proxies]).encode()
    found = asked_by(chain)
    if not TRUSTS(client):
        assert found == client


# ---- what is said --------------------------------------------------------------------------------


def said(peer: bytes, *, trusted: bool = True, **sent: list[bytes]) -> list[bytes]:
    names = {name.replace("_", "-").encode(): values for name, values in sent.items()}
    hop = Hop(
        peer=peer, client=b"192.0.2.7", trusted=trusted, scheme=b"https", host=b"a", request_id=b"i"
    )
    return forwarding_fields(names, hop)


def test_the_one_address_is_that_of_the_logs() -> None:
    """Two answers to who has asked would be one too many."""
    assert b"X-Real-IP: 192.0.2.7" in said(b"10.0.0.1", x_real_ip=[b"6.6.6.6"])


@pytest.mark.parametrize(
    ("peer", "element"),
    [
        (b"10.0.0.1", b"for=10.0.0.1;proto=https"),
        (b"fd00::1", b'for="[fd00::1]";proto=https'),
        (b"unix", b"for=unknown;proto=https"),
        (b"unknown", b"for=unknown;proto=https"),
    ],
)
def test_forwarded_is_continued_where_a_trusted_proxy_has_begun_it(
    peer: bytes, element: bytes
) -> None:
    """RFC 7239 4 and 6: one element for each hop; addresses of IPv6 are quoted."""
    begun = said(peer, forwarded=[b"for=192.0.2.7;by=_x", b"for=10.0.0.2"])
    assert begun[-1] == b"Forwarded: for=192.0.2.7;by=_x, for=10.0.0.2, " + element
    assert not any(line.startswith(b"Forwarded:") for line in said(peer))


@pytest.mark.parametrize(
    ("sent", "trusted", "kept"),
    [
        ([b"abc-1"], True, True),
        ([b"Root=1-67891233:abcdef@x/y+z==._"], True, True),
        ([b"a" * 128], True, True),
        ([b"abc-1"], False, False),
        ([b"a" * 129], True, False),
        ([b""], True, False),
        ([b"a b"], True, False),
        ([b"a\n"], True, False),
        ([b'"a"'], True, False),
        ([b"\xe4"], True, False),
        ([b"a", b"a"], True, False),
        ([], True, False),
    ],
)
def test_a_request_id_is_kept_only_if_valid_and_trusted(
    sent: list[bytes], trusted: bool, kept: bool
) -> None:
    request = head(*((b"X-Request-ID", value) for value in sent))
    found = request_id_of(request, trusted=trusted, made=b"made")
    assert found == (sent[0] if kept else b"made")
