"""Which Host fields a web page cannot have made up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.asked_name import may_be_asked

KNOWN = ("lb.example.com", "*.corp.example")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "10.0.0.5:8081",
        "[::1]",
        "[2001:db8::5]:8081",
        "localhost:8081",
        "LOCALHOST",
        "lb1",
        "lb1:8081",
        "lb1.local",
        "lb1.prod.internal:8081",
        "balancer.web.svc.cluster.local:8081",
        "balancer.web.svc.cluster.local.",
        "lb.example.com",
        "LB.Example.com.:8081",
        "a.corp.example",
        "a.b.corp.example:1",
        "",
    ],
)
def test_an_address_a_private_name_and_a_known_one_may_be_asked(host: str) -> None:
    assert may_be_asked(host, KNOWN)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8081",
        "lb.example.com.evil.example",
        "evil-lb.example.com",
        "a.lb.example.com",
        "corp.example",
        "xcorp.example",
        "127.0.0.1.evil.example",
        "127.0.0.1.nip.io",
        "10.0.0.256",
        "1.2.3",
        "[::1].evil.example",
        "[10.0.0.1.2]",
        "[evil.example]",
        "notlocal.evil",
        "a:b.c",
        "evil.example@127.0.0.1",
        "127.0.0.1,evil.example",
        "evil.example\x00.local:80:1",
    ],
)
def test_any_other_name_may_be_a_strangers(host: str) -> None:
    assert not may_be_asked(host, KNOWN)


@given(st.from_regex(r"[a-z]{1,10}\.(com|org|example|io)\.?(:[0-9]{1,5})?", fullmatch=True))
def test_no_public_name_may_be_asked_unless_it_is_known(host: str) -> None:
    assert not may_be_asked(host, ())
    name = host.partition(":")[0].removesuffix(".")
    assert may_be_asked(host, [name])
