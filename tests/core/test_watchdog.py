from balancer.supervisor.watchdog import HUNG_LOOKS, KILL_LOOKS, START_LOOKS, Finding, Pulse


def test_a_counter_that_moves_is_life() -> None:
    pulse = Pulse()
    assert {pulse.look(beat) for beat in range(50)} == {Finding.ALIVE}


def test_a_counter_that_stands_still_is_found_hung_and_then_dead() -> None:
    pulse = Pulse()
    pulse.look(7)
    found = [pulse.look(7) for _ in range(2 * KILL_LOOKS)]
    assert found[: HUNG_LOOKS - 1] == [Finding.QUIET] * (HUNG_LOOKS - 1)
    assert found[HUNG_LOOKS - 1] is Finding.HUNG
    dead = [number for number, finding in enumerate(found, 1) if finding is Finding.DEAD]
    assert dead == [KILL_LOOKS, 2 * KILL_LOOKS], "told again where a kill has not helped"


def test_one_that_is_starting_is_given_more_time() -> None:
    pulse = Pulse()
    found = [pulse.look(0, START_LOOKS) for _ in range(START_LOOKS + 1)]
    assert found.index(Finding.DEAD) == START_LOOKS


def test_one_sign_of_life_starts_the_count_anew() -> None:
    pulse = Pulse()
    for _ in range(HUNG_LOOKS):
        pulse.look(0)
    assert pulse.look(1) is Finding.ALIVE
    assert pulse.look(1) is Finding.QUIET


def test_a_counter_that_was_reset_is_life_too() -> None:
    pulse = Pulse()
    pulse.look(9)
    assert pulse.look(0) is Finding.ALIVE
