"""Where the three machines meet: who may be picked, panic, and the rules of a single pick."""

from collections import Counter
from collections.abc import Collection, Sequence
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.backend import AdminState, BackendView
from balancer.core.outcome import PickFailure
from balancer.core.policies import spares_trials
from balancer.core.snapshot import PoolSnapshot, pool_snapshot, why_none
from healthcheck.core.verdict import Health
from tests.support.ranked import FEW, MANY, policy_of
from tests.support.views import view

EVERY_POLICY = pytest.mark.parametrize("policy", FEW + MANY)
EVERY_KIND = [
    view("x", weight, admin=admin, health=health, ejected=ejected)
    for weight, admin, health, ejected in product((0, 1), AdminState, Health, (False, True))
]


def snapshot(
    *backends: BackendView,
    pending: Collection[str] = (),
    panic_below: float = 0.0,
    was_panic: bool = False,
) -> PoolSnapshot:
    return pool_snapshot(
        "web",
        "least-connections",
        backends,
        pending=pending,
        panic_below=panic_below,
        was_panic=was_panic,
    )


def addresses(chosen: Sequence[BackendView]) -> list[str]:
    return [one.id.address for one in chosen]


def sick(address: str) -> BackendView:
    return view(address, health=Health.UNHEALTHY, reason="status 503, expected 200-299")


# ---- candidates ----------------------------------------------------------------------------------


@pytest.mark.parametrize("one", EVERY_KIND, ids=repr)
def test_beside_a_good_backend_only_the_predicate_decides(one: BackendView) -> None:
    assert ("x" in addresses(snapshot(view("good"), one).candidates)) is one.available


@pytest.mark.parametrize("one", EVERY_KIND, ids=repr)
def test_panic_ignores_health_and_ejection_and_nothing_else(one: BackendView) -> None:
    alone = snapshot(one)
    assert bool(alone.candidates) is (one.admin is AdminState.READY and one.weight > 0)
    assert alone.panic is (bool(alone.candidates) and not one.available)


@pytest.mark.parametrize("one", EVERY_KIND, ids=repr)
def test_panic_never_overrides_a_first_verdict_still_pending(one: BackendView) -> None:
    waiting = snapshot(one, pending={"x"})
    assert not waiting.panic
    assert waiting.candidates == ((one,) if one.available and one.weight else ())


KINDS = st.builds(
    view,
    st.uuids().map(str),
    st.sampled_from([0, 1, 3]),
    admin=st.sampled_from(AdminState),
    health=st.sampled_from(Health),
    ejected=st.booleans(),
    on_trial=st.booleans(),
)


@given(st.lists(KINDS, max_size=8), st.floats(0, 1), st.booleans(), st.sets(st.integers(0, 7)))
def test_nobody_outside_admin_state_weight_and_first_verdict_is_ever_a_candidate(
    backends: list[BackendView], panic_below: float, was_panic: bool, waiting: set[int]
) -> None:
    pending = {one.id.address for i, one in enumerate(backends) if i in waiting}
    shot = snapshot(*backends, pending=pending, panic_below=panic_below, was_panic=was_panic)
    for one in shot.candidates:
        assert one.admin is AdminState.READY
        assert one.weight > 0
        assert one.available or (shot.panic and one.id.address not in pending)
    if any(one.available and one.weight for one in backends if one.id.address not in pending):
        assert shot.candidates
    assert shot.available == sum(one.available for one in backends)


# ---- panic ---------------------------------------------------------------------------------------


def test_by_default_panic_is_only_when_none_is_available() -> None:
    assert not snapshot(view("a"), sick("b"), sick("c")).panic
    assert snapshot(sick("a"), sick("b"), sick("c")).panic


def test_by_default_panic_is_over_with_the_first_good_backend() -> None:
    """Beside one known to be good, those known to be bad take nothing."""
    over = snapshot(view("a"), sick("b"), sick("c"), was_panic=True)
    assert not over.panic
    assert addresses(over.candidates) == ["a"]


def pool_of_ten(good: int, *, was_panic: bool) -> PoolSnapshot:
    everyone = [view(f"{i}") if i < good else sick(f"{i}") for i in range(10)]
    return snapshot(*everyone, panic_below=0.5, was_panic=was_panic)


def test_entering_and_leaving_panic_are_apart() -> None:
    """A pool at the threshold must not swing with every verdict."""
    assert [n for n in range(11) if pool_of_ten(n, was_panic=False).panic] == [0, 1, 2, 3, 4]
    assert [n for n in range(11) if pool_of_ten(n, was_panic=True).panic] == [0, 1, 2, 3, 4, 5]


@given(st.integers(0, 30), st.floats(0, 1), st.booleans())
def test_a_pool_in_which_all_are_available_is_never_in_panic(
    size: int, panic_below: float, was_panic: bool
) -> None:
    everyone = [view(f"{i}") for i in range(size)]
    assert not snapshot(*everyone, panic_below=panic_below, was_panic=was_panic).panic


@given(st.integers(1, 30), st.integers(0, 30), st.floats(0, 1))
def test_who_was_not_in_panic_is_no_quicker_to_enter_than_who_was_is_to_leave(
    size: int, good: int, panic_below: float
) -> None:
    everyone = [view(f"{i}") if i < good else sick(f"{i}") for i in range(size)]
    fresh = snapshot(*everyone, panic_below=panic_below)
    staying = snapshot(*everyone, panic_below=panic_below, was_panic=True)
    assert fresh.panic <= staying.panic


def test_draining_maintenance_weight_0_and_pending_do_not_count_towards_panic() -> None:
    out = [
        view("d", admin=AdminState.DRAINING),
        view("m", admin=AdminState.MAINTENANCE),
        view("w", 0),
        view("p", health=Health.UNKNOWN),
    ]
    assert not snapshot(view("a"), *out, pending={"p"}, panic_below=0.9).panic


def test_panic_forgets_that_a_backend_is_on_trial() -> None:
    """Ejection is ignored, so the limit that came with it is, too; or panic would shed."""
    on_trial = view("a", health=Health.UNHEALTHY, on_trial=True, limit=1)
    (candidate,) = snapshot(on_trial).candidates
    assert candidate.limit is None
    assert not candidate.on_trial


def test_a_snapshot_says_how_the_pool_is_doing() -> None:
    assert snapshot(view("a"), sick("b")).summary == "1 of 2 backends available"
    assert "panic: 0 of 1 backends available" in snapshot(sick("b")).summary


def test_a_backend_of_weight_0_is_counted_nowhere() -> None:
    """It read "2 of 3 available", and a first check of it kept a panic from beginning."""
    checking = view("w", 0, health=Health.UNKNOWN)
    shot = snapshot(view("a"), sick("b"), view("v", 0), checking, pending={"w"})
    assert (shot.available, shot.summary) == (1, "1 of 2 backends available")
    assert snapshot(sick("b"), checking, pending={"w"}).panic


# ---- explain -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (view("x", reason="2 of 2 probes passed"), "takes requests: 2 of 2 probes passed"),
        (view("x"), "takes requests"),
        (view("x", 0), "takes no new requests: its weight is 0"),
        (sick("x"), "takes no new requests: unhealthy: status 503, expected 200-299"),
        (view("x", ejected=True, reason="for 10 s"), "takes no new requests: ejected: for 10 s"),
        (view("x", health=Health.UNKNOWN), "takes no new requests: unknown"),
        (
            view("x", on_trial=True, limit=1, reason="ejection over"),
            "takes requests on trial, at most 1 at a time: ejection over",
        ),
        (view("x", on_trial=True), "takes requests on trial"),
        (
            view("x", admin=AdminState.DRAINING),
            "takes no new requests: draining by the operator",
        ),
    ],
)
def test_every_backend_is_explained(one: BackendView, words: str) -> None:
    assert snapshot(view("good"), one).explain(one) == words


def test_what_has_no_verdict_yet_is_explained() -> None:
    waiting = view("x", health=Health.UNKNOWN)
    assert "first check is still to come" in snapshot(waiting, pending={"x"}).explain(waiting)


def test_what_panic_changes_is_explained() -> None:
    words = snapshot(sick("x")).explain(sick("x"))
    assert words.startswith("takes requests although unhealthy, because the pool is in panic")


# ---- pick ----------------------------------------------------------------------------------------


def picks(
    shot: PoolSnapshot,
    policy: str,
    n: int = 30,
    *,
    avoid: Collection[str] = (),
    unrepeatable: bool = False,
    in_flight: dict[str, int] | None = None,
) -> Counter[str | None]:
    chooser = policy_of(policy, 3)
    seen: Counter[str | None] = Counter()
    for _ in range(n):
        one = chooser.pick(
            shot.candidates, in_flight or {}, avoid=avoid, spares_trials=unrepeatable
        )
        seen[None if one is None else one.id.address] += 1
    return seen


TRIAL = view("t", on_trial=True, limit=1)


@EVERY_POLICY
def test_a_retry_goes_to_who_was_not_tried(policy: str) -> None:
    shot = snapshot(view("a"), view("b"), view("c"))
    assert set(picks(shot, policy, avoid={"a"})) == {"b", "c"}
    assert set(picks(shot, policy, avoid={"a", "b"})) == {"c"}


@EVERY_POLICY
def test_when_all_were_tried_they_are_tried_again(policy: str) -> None:
    shot = snapshot(view("a"), view("b"))
    assert set(picks(shot, policy, avoid={"a", "b"})) == {"a", "b"}


@EVERY_POLICY
def test_when_the_untried_are_full_the_tried_are_tried_again(policy: str) -> None:
    shot = snapshot(view("a"), view("b", limit=2))
    assert set(picks(shot, policy, avoid={"a"}, in_flight={"b": 2})) == {"a"}


@EVERY_POLICY
def test_on_trial_takes_one_attempt_at_a_time(policy: str) -> None:
    shot = snapshot(view("a"), TRIAL)
    assert "t" in picks(shot, policy)
    assert set(picks(shot, policy, in_flight={"t": 1})) == {"a"}


@EVERY_POLICY
def test_an_unrepeatable_request_is_no_trial_while_others_exist(policy: str) -> None:
    shot = snapshot(view("a"), view("b"), TRIAL)
    assert set(picks(shot, policy, unrepeatable=True)) == {"a", "b"}
    assert set(picks(shot, policy, unrepeatable=True, avoid={"a"})) == {"b"}


@EVERY_POLICY
def test_an_unrepeatable_request_goes_on_trial_rather_than_back_or_nowhere(policy: str) -> None:
    """The untried first: who was just tried failed a moment ago."""
    assert set(picks(snapshot(TRIAL), policy, unrepeatable=True)) == {"t"}
    assert set(picks(snapshot(view("a"), TRIAL), policy, unrepeatable=True, avoid={"a"})) == {"t"}
    full = picks(
        snapshot(view("a"), TRIAL), policy, unrepeatable=True, avoid={"a"}, in_flight={"t": 1}
    )
    assert set(full) == {"a"}


@EVERY_POLICY
@pytest.mark.parametrize("unrepeatable", [False, True])
@pytest.mark.parametrize("avoid", [(), {"t"}])
def test_where_nobody_has_room_nobody_is_picked(
    policy: str, unrepeatable: bool, avoid: Collection[str]
) -> None:
    seen = picks(
        snapshot(view("t", limit=1)),
        policy,
        unrepeatable=unrepeatable,
        avoid=avoid,
        in_flight={"t": 1},
    )
    assert set(seen) == {None}


@EVERY_POLICY
@given(
    backends=st.lists(KINDS, max_size=6),
    tried=st.sets(st.integers(0, 5)),
    unrepeatable=st.booleans(),
)
def test_a_pick_is_a_candidate_and_untried_if_any_is(
    policy: str, backends: list[BackendView], tried: set[int], unrepeatable: bool
) -> None:
    shot = snapshot(*backends)
    avoid = {one.id.address for i, one in enumerate(backends) if i in tried}
    chosen = policy_of(policy, None).pick(
        shot.candidates, {}, avoid=avoid, spares_trials=unrepeatable
    )
    untried = [one for one in shot.candidates if one.id.address not in avoid]
    steady = [one for one in untried if not one.on_trial]
    assert (chosen is None) is (not shot.candidates)
    if chosen is not None:
        assert chosen in ((unrepeatable and steady) or untried or shot.candidates)


# ---- why none ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backends", "why"),
    [
        ([], PickFailure.EMPTY),
        ([view("a", limit=1)], PickFailure.FULL),
        ([view("a", admin=AdminState.DRAINING)], PickFailure.NONE_READY),
        (
            [view("a", admin=AdminState.MAINTENANCE), view("p", health=Health.UNKNOWN)],
            PickFailure.PENDING,
        ),
        ([view("a", 0)], PickFailure.NO_WEIGHT),
        (
            [view("b", health=Health.UNHEALTHY), view("p", health=Health.UNKNOWN)],
            PickFailure.NONE_AVAILABLE,
        ),
    ],
)
def test_why_nobody_was_picked_has_a_name(backends: list[BackendView], why: PickFailure) -> None:
    assert why_none(snapshot(*backends, pending={"p"})) is why


def test_a_trial_limits_nobody_where_no_other_carries_the_rest() -> None:
    """One attempt at a time on the only backend that works would shed all the others."""
    alone = snapshot(view("a", on_trial=True, limit=1), sick("b"))
    assert [candidate.limit for candidate in alone.candidates] == [None]
    beside = snapshot(view("a", on_trial=True, limit=1), view("b"))
    assert [candidate.limit for candidate in beside.candidates] == [1, None]


def test_every_64th_unrepeatable_request_may_go_to_a_trial() -> None:
    assert [n for n in range(1, 200) if not spares_trials(n)] == [64, 128, 192]
