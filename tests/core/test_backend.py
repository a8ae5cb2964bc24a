"""The one predicate, and room."""

from itertools import product

import pytest

from balancer.core.backend import AdminState
from healthcheck.core.verdict import Health
from tests.support.views import view


@pytest.mark.parametrize(
    ("admin", "weight", "health", "ejected"),
    list(product(AdminState, (0, 1), Health, (False, True))),
)
def test_available_is_ready_of_some_weight_healthy_and_not_ejected(
    admin: AdminState, weight: int, health: Health, ejected: bool
) -> None:
    one = view("a", weight, admin=admin, health=health, ejected=ejected)
    good = (AdminState.READY, 1, Health.HEALTHY, False)
    assert one.available is ((admin, weight, health, ejected) == good)
    assert one.pending is (admin is AdminState.READY and health is Health.UNKNOWN)


@pytest.mark.parametrize(
    ("limit", "in_flight", "room"),
    [(None, 10**6, True), (1, 0, True), (1, 1, False), (2, 3, False)],
)
def test_room_is_below_the_limit(limit: int | None, in_flight: int, room: bool) -> None:
    assert view("a", limit=limit).has_room(in_flight) is room


def test_what_each_admin_state_means_for_traffic_and_probes() -> None:
    assert [(state, state.serves, state.probed) for state in AdminState] == [
        (AdminState.READY, True, True),
        (AdminState.DRAINING, False, True),
        (AdminState.MAINTENANCE, False, False),
    ]


@pytest.mark.parametrize(("before", "after"), list(product(AdminState, AdminState)))
def test_only_leaving_maintenance_forgets_what_was_known(
    before: AdminState, after: AdminState
) -> None:
    left = before is AdminState.MAINTENANCE and after is not AdminState.MAINTENANCE
    assert after.forgets(before) is left
