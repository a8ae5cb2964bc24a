"""Whose word counts: networks, and who has no address."""

import pytest

from balancer.core.trust import trusting

NETWORKS = ("10.0.0.0/8", "fd00::/8", "192.0.2.7/32")


@pytest.mark.parametrize(
    ("client", "trusted"),
    [
        ("10.255.0.1", True),
        ("11.0.0.1", False),
        ("192.0.2.7", True),
        ("192.0.2.8", False),
        ("fd12::1", True),
        ("fd12::1%eth0", True),
        ("fe80::1", False),
        ("::ffff:10.0.0.1", True),
        ("::ffff:11.0.0.1", False),
        ("::10.0.0.1", False),
        ("unix", False),
        ("unknown", False),
        ("", False),
        ("10.0.0.1 ", False),
        ("10.0.0.1:80", False),
        ("0010.0.0.1", False),
    ],
)
def test_an_address_is_in_a_trusted_network_or_not(client: str, trusted: bool) -> None:
    assert trusting(NETWORKS)(client) is trusted


def test_nobody_is_trusted_by_default_the_machine_itself_included() -> None:
    trusts = trusting(())
    assert not any(map(trusts, ("127.0.0.1", "::1", "unix", "10.0.0.1")))


def test_unix_sockets_are_trusted_by_name() -> None:
    trusts = trusting(("unix:",))
    assert trusts("unix")
    assert not trusts("127.0.0.1")
    assert not trusts("unknown")
