"""Which certificate is for a name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.server_names import ServerNames, covering, host_of, with_same_names

NAMES = ServerNames(
    [["a.test", "www.a.test"], ["*.b.test", "127.0.0.1", "::1"], ["x.b.test", "a.test"]]
)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a.test", 0),
        ("A.TEST.", 0),
        ("www.a.test", 0),
        ("y.b.test", 1),
        ("x.b.test", 2),
        ("b.test", None),
        ("z.y.b.test", None),
        (".b.test", 1),
        ("127.0.0.1", 1),
        ("[::1]", 1),
        ("10.0.0.1", None),
        ("test", None),
        ("", None),
        ("*.b.test", 1),
    ],
)
def test_an_exact_name_comes_before_one_that_covers_it(name: str, found: int | None) -> None:
    assert NAMES.find(name) == found


def test_a_certificate_is_for_more_names_than_it_would_be_chosen_for() -> None:
    assert NAMES.covers(1, "x.b.test")
    assert NAMES.covers(2, "a.test")
    assert not NAMES.covers(0, "x.b.test")


def test_no_wildcard_stands_for_an_address() -> None:
    """RFC 9525 6.3: for one label, on the left."""
    assert covering("10.0.0.1") == ""
    assert covering("a.b.test") == "*.b.test"
    assert covering("localhost") == ""


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        ("a.test", "a.test"),
        ("a.test:8443", "a.test"),
        ("a.test:", "a.test"),
        ("[::1]:443", "[::1]"),
        ("[::1]", "[::1]"),
        ("127.0.0.1:1", "127.0.0.1"),
    ],
)
def test_a_host_is_an_authority_without_its_port(authority: str, host: str) -> None:
    assert host_of(authority) == host


@given(st.text("aB.*[]:1", max_size=12))
def test_what_is_found_covers(name: str) -> None:
    found = NAMES.find(name)
    assert found is None or NAMES.covers(found, name)


def test_those_with_the_same_names_belong_together_however_they_are_written() -> None:
    names = [["a.test", "b.test"], ["a.test"], ["B.test.", "a.test", "b.test"], [], ["a.test"], []]
    assert with_same_names(names) == [[0, 2], [1, 4], [3, 5]]
    assert with_same_names([]) == []
