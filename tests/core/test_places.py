"""How many clients fit into a worker, and what counts as one address."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.places import address_of, most_clients, share


@pytest.mark.parametrize(
    ("descriptors", "listening", "fit"),
    [(1024, 0, 384), (1024, 100, 334), (65_536, 4, 32_638), (256, 0, 32), (512, 0, 128), (4, 0, 1)],
)
def test_a_client_takes_two_descriptors_of_those_that_are_left(
    descriptors: int, listening: int, fit: int
) -> None:
    assert most_clients(descriptors, listening) == fit


@given(descriptors=st.integers(16, 1_000_000), listening=st.integers(0, 300))
def test_all_of_them_with_a_backend_each_never_need_more_than_there_are(
    descriptors: int, listening: int
) -> None:
    assert 2 * most_clients(descriptors, listening) <= descriptors


@pytest.mark.parametrize(
    ("most", "workers", "each"), [(10, 1, 10), (10, 4, 3), (1, 2, 1), (0, 2, 0)]
)
def test_a_limit_is_shared_by_the_workers(most: int, workers: int, each: int) -> None:
    assert share(most, workers) == each


@pytest.mark.parametrize(
    ("client", "counts_as"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unix", None),
        ("unknown", None),
    ],
)
def test_what_a_client_counts_as(client: str, counts_as: str | None) -> None:
    assert address_of(client) == counts_as
