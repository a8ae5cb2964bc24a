"""The one word that an operator reads for a backend's state."""

from itertools import product

import pytest

from balancer.core.backend import AdminState
from balancer.core.state_word import state_word, used_in_panic
from healthcheck.core.verdict import Health


@pytest.mark.parametrize(
    ("admin", "health", "ejected", "on_trial", "word"),
    [
        ("ready", "healthy", False, False, "up"),
        ("ready", "healthy", False, True, "on trial"),
        ("ready", "healthy", True, False, "ejected"),
        ("ready", "unhealthy", True, False, "unhealthy"),
        ("ready", "unknown", False, False, "checking"),
        ("draining", "unhealthy", True, True, "draining"),
        ("maintenance", "unknown", False, False, "maintenance"),
    ],
)
def test_the_first_thing_to_know_is_said_first(
    admin: str, health: str, ejected: bool, on_trial: bool, word: str
) -> None:
    """The operator's order explains a probe's finding, and that explains an ejection."""
    assert state_word(admin=admin, health=health, ejected=ejected, on_trial=on_trial) == word


def test_only_a_backend_that_may_be_picked_reads_up_or_on_trial() -> None:
    for admin, health, ejected, on_trial in product(
        AdminState, Health, [True, False], [True, False]
    ):
        word = state_word(admin=admin, health=health, ejected=ejected, on_trial=on_trial)
        available = admin is AdminState.READY and health is Health.HEALTHY and not ejected
        assert (word in ("up", "on trial")) == available


@pytest.mark.parametrize(
    ("word", "used"),
    [
        ("unhealthy", True),
        ("ejected", True),
        ("up", False),
        ("on trial", False),
        ("checking", False),
        ("draining", False),
        ("maintenance", False),
    ],
)
def test_panic_uses_what_it_ignores_and_nothing_else(word: str, used: bool) -> None:
    """Panic never overrides the operator, nor a first verdict that is still to come."""
    assert used_in_panic(word) is used
