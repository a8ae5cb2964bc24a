from balancer.core.restarts import FIRST_PAUSE_S, PAUSE_MAX_S, STEADY_S, Restarts


def test_one_that_served_for_long_is_followed_at_once() -> None:
    restarts = Restarts()
    assert restarts.pause_s(STEADY_S) == 0.0
    assert restarts.pause_s(STEADY_S) == 0.0
    assert not restarts.looping


def test_one_that_ends_at_once_waits_longer_each_time_and_never_too_long() -> None:
    restarts = Restarts()
    pauses = [restarts.pause_s(0.2) for _ in range(40)]
    assert pauses[:4] == [0.0, FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S]
    assert pauses == sorted(pauses)
    assert pauses[-1] == PAUSE_MAX_S
    assert restarts.looping
    assert restarts.in_a_row == 40


def test_steady_service_is_forgiven() -> None:
    restarts = Restarts()
    for _ in range(5):
        restarts.pause_s(0.1)
    assert restarts.pause_s(STEADY_S) == 0.0
    assert restarts.pause_s(0.1) == FIRST_PAUSE_S
