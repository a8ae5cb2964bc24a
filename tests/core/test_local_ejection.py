"""When a worker leaves a backend out on its own, and what its pool then looks like."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.backend import AdminState, BackendView
from balancer.core.local_ejection import LocalEjections, ejectable, may_eject, without
from balancer.core.snapshot import PoolSnapshot, pool_snapshot
from healthcheck.core.verdict import Health
from tests.support.views import view

TRIAL = view("t", on_trial=True, limit=1)


def word(*backends: BackendView, ratio: float = 1.0, after: int | None = 3) -> PoolSnapshot:
    return pool_snapshot(
        "web",
        "least-connections",
        backends,
        pending=(),
        panic_below=0.0,
        was_panic=False,
        ejectable=ejectable(backends, ratio),
        eject_after=after,
    )


@pytest.mark.parametrize(
    ("backends", "ratio", "allowed"),
    [
        ([], 1.0, 0),
        ([view("a")], 1.0, 0),
        ([view("a"), view("b")], 1.0, 1),
        ([view("a"), view("b")], 0.5, 1),
        ([view("a"), view("b")], 0.4, 0),
        ([view("a"), view("b"), view("c"), view("d", ejected=True)], 0.5, 1),
        ([view("a"), view("b", ejected=True)], 1.0, 0),
        ([view("a"), view("b", health=Health.UNHEALTHY)], 1.0, 0),
        ([view("a"), view("b", admin=AdminState.DRAINING)], 1.0, 0),
        ([view("a"), view("b", 0)], 1.0, 0),
    ],
)
def test_how_many_may_go(backends: list[BackendView], ratio: float, allowed: int) -> None:
    assert ejectable(backends, ratio) == allowed


def test_enough_failures_in_a_row_are_needed() -> None:
    two = word(view("a"), view("b"))
    assert [may_eject(two, two.backends[0], n) for n in range(5)] == [False] * 3 + [True] * 2


def test_on_trial_one_is_enough() -> None:
    assert may_eject(word(view("a"), view("b"), TRIAL), TRIAL, 1)
    assert not may_eject(word(view("a"), view("b"), TRIAL), TRIAL, 0)


@pytest.mark.parametrize(
    "snapshot",
    [
        word(view("a"), view("b"), after=None),
        word(view("a"), view("b"), ratio=0.1),
        word(view("a")),
        word(view("a"), view("b", health=Health.UNHEALTHY)),
    ],
    ids=["no passive tracking", "no share left", "alone", "the last that works"],
)
def test_where_it_is_not_allowed_nobody_goes(snapshot: PoolSnapshot) -> None:
    assert not may_eject(snapshot, snapshot.backends[0], 100)


def test_in_panic_nobody_goes() -> None:
    panic = word(*(view(name, health=Health.UNHEALTHY) for name in "abc"))
    assert panic.panic
    assert not may_eject(panic, panic.candidates[0], 100)


def test_who_takes_nothing_anyway_or_is_gone_is_not_ejected() -> None:
    assert not may_eject(word(view("a"), view("c")), None, 100)


def test_it_looks_like_an_ejection_of_the_supervisor() -> None:
    before = word(view("a"), view("b"), view("c"))
    after = without(before, {"a": "ejected by this worker: status 503"})
    assert [one.id.address for one in after.candidates] == ["b", "c"]
    assert after.summary == "2 of 3 backends available"
    assert after.explain(after.backends[0]) == (
        "takes no new requests: ejected: ejected by this worker: status 503"
    )
    assert (before.ejectable, after.ejectable) == (2, 1)


def test_it_holds_until_its_time_is_over_or_the_supervisor_has_decided() -> None:
    three = word(view("a"), view("b"), view("c"))
    ejections = LocalEjections()
    assert ejections.applied_to(three) is three
    ejections.add("a", "status 503", until=10.0)
    ejections.add("b", "refused", until=12.0)
    assert [one.id.address for one in ejections.applied_to(three).candidates] == ["c"]
    assert not ejections.end(9.9)
    assert ejections.end(10.0)
    assert [one.id.address for one in ejections.applied_to(three).candidates] == ["a", "c"]
    assert ejections.answered("b")
    assert not ejections.answered("b")
    assert ejections.applied_to(three) is three


def out_of(ejections: LocalEjections, said: PoolSnapshot) -> set[str]:
    """Whom the worker alone leaves out."""
    shown = ejections.applied_to(said)
    picked = [{one.id.address for one in each.candidates} for each in (said, shown)]
    return picked[0] - picked[1]


@pytest.mark.parametrize(
    ("said", "left"),
    [
        (word(view("a"), view("b"), view("c")), {"a", "b"}),
        (word(view("a"), view("b"), view("c"), ratio=0.4), {"a"}),
        (word(view("a"), view("b", ejected=True), view("c"), view("d")), {"a"}),
        (word(view("b"), view("c"), view("d")), {"b"}),
        (word(view("a"), view("b"), view("c", health=Health.UNHEALTHY)), {"a"}),
        (word(view("a"), view("b"), view("c"), after=None), set()),
        (word(*(view(name, health=Health.UNHEALTHY) for name in "abc")), set()),
    ],
    ids=[
        "news of something else",
        "less may be out: who went first stays out",
        "one is out for everybody",
        "one is gone",
        "a third no longer works, and one must be left",
        "ejections are switched off",
        "panic",
    ],
)
def test_the_next_word_ends_what_it_leaves_no_room_for(said: PoolSnapshot, left: set[str]) -> None:
    ejections = LocalEjections()
    ejections.add("a", "status 503", until=10.0)
    ejections.add("b", "status 503", until=10.0)
    assert out_of(ejections, said) == left
    later = word(view("a"), view("b"), view("c"))
    assert out_of(ejections, later) == left, "for good"


KINDS = st.builds(
    view,
    st.sampled_from("abcdefgh"),
    st.sampled_from([0, 1, 3]),
    admin=st.sampled_from(AdminState),
    health=st.sampled_from([Health.HEALTHY, Health.HEALTHY, Health.UNHEALTHY]),
    ejected=st.booleans(),
    on_trial=st.booleans(),
)


POOLS = st.lists(KINDS, max_size=8, unique_by=lambda one: one.id)


@given(POOLS, st.floats(0, 1), st.randoms())
def test_however_much_fails_somebody_is_left_and_the_share_holds(backends, ratio, order) -> None:
    now = word(*backends, ratio=ratio)
    out: dict[str, str] = {}
    failing = list(backends)
    order.shuffle(failing)
    for one in failing:
        shown = next(seen for seen in now.backends if seen.id == one.id)
        if may_eject(now, shown, 100):
            out[one.id.address] = "status 503"
            now = without(word(*backends, ratio=ratio), out)
            assert now.candidates
            assert not now.panic
    assert len(out) <= ejectable(backends, ratio)


@given(st.lists(st.tuples(POOLS, st.floats(0, 1)), max_size=4), st.data())
def test_whatever_is_said_next_somebody_is_left_and_the_share_holds(words, data) -> None:
    ejections = LocalEjections()
    for backends, ratio in words:
        said = word(*backends, ratio=ratio)
        shown = ejections.applied_to(said)
        assert bool(shown.candidates) is bool(said.candidates)
        assert len(said.candidates) - len(shown.candidates) <= said.ejectable
        assert shown.ejectable >= 0
        for one in data.draw(st.lists(st.sampled_from(shown.candidates or (None,)))):
            shown = ejections.applied_to(said)
            if one in shown.candidates and may_eject(shown, one, 100):
                ejections.add(one.id.address, "status 503", until=1.0)
