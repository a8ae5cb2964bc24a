"""The one word that an operator reads for a backend's state."""

from itertools import product

import pytest

from balancer.core.backend import AdminState
from balancer.core.state_word import state_word, used_in_panic
from healthcheck.core.verdict import Health
from tests.support.views import view


@pytest.mark.parametrize(
    ("admin", "weight", "health", "ejected", "on_trial", "word"),
    [
        ("ready", 1, "healthy", False, False, "up"),
        ("ready", 1, "healthy", False, True, "on trial"),
        ("ready", 1, "healthy", True, False, "ejected"),
        ("ready", 1, "unhealthy", True, False, "unhealthy"),
        ("ready", 1, "unknown", False, False, "checking"),
        ("ready", 0, "healthy", False, False, "weight 0"),
        ("ready", 0, "unhealthy", True, False, "weight 0"),
        ("draining", 0, "healthy", False, False, "draining"),
        ("draining", 1, "unhealthy", True, True, "draining"),
        ("maintenance", 1, "unknown", False, False, "maintenance"),
    ],
)
def test_the_first_thing_to_know_is_said_first(
    admin: str, weight: int, health: str, ejected: bool, on_trial: bool, word: str
) -> None:
    """The operator's order explains a probe's finding, and that explains an ejection."""
    found = state_word(
        admin=admin, weight=weight, health=health, ejected=ejected, on_trial=on_trial
    )
    assert found == word


def test_only_a_backend_that_may_be_picked_reads_up_or_on_trial() -> None:
    for admin, weight, health, ejected, on_trial in product(
        AdminState, [0, 1], Health, [True, False], [True, False]
    ):
        word = state_word(
            admin=admin, weight=weight, health=health, ejected=ejected, on_trial=on_trial
        )
        one = view("a", weight, admin=admin, health=health, ejected=ejected, on_trial=on_trial)
        assert (word in ("up", "on trial")) == one.available


@pytest.mark.parametrize(
    ("word", "used"),
    [
        ("unhealthy", True),
        ("ejected", True),
        ("up", False),
        ("on trial", False),
        ("checking", False),
        ("weight 0", False),
        ("draining", False),
        ("maintenance", False),
    ],
)
def test_panic_uses_what_it_ignores_and_nothing_else(word: str, used: bool) -> None:
    """Panic never overrides the operator, nor a first verdict that is still to come."""
    assert used_in_panic(word) is used
