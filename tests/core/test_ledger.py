"""The ledger: the operator's orders over the file, by identity, each of them repeatable."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from balancer.core.backend import AdminState
from balancer.core.ledger import GONE_MAX, Applied, Ledger, LedgerEntry, Refused

A, B, C = "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"
FILE = {"web": {A: 1, B: 2}, "api": {"api.internal:80": 1}}


def plain() -> Ledger:
    return Ledger.of(FILE, None)


def stored(ledger: Ledger) -> object:
    """The overlay as it comes back from disk."""
    return json.loads(json.dumps(ledger.overlay()))


def addresses(ledger: Ledger, pool: str = "web") -> list[str]:
    return [entry.address for entry in ledger.entries(pool)]


def entry(ledger: Ledger, address: str) -> LedgerEntry:
    return next(each for each in ledger.entries("web") if each.address == address)


# ---- orders --------------------------------------------------------------------------------------


def test_without_orders_the_file_says_it_all() -> None:
    assert plain().entries("web") == [
        LedgerEntry(address=A, weight=1, admin=AdminState.READY, origin="file"),
        LedgerEntry(address=B, weight=2, admin=AdminState.READY, origin="file"),
    ]
    assert plain().overlay() == {"pools": {}}
    assert plain().entries("unheard-of") == []


def test_an_added_backend_stands_last_and_comes_from_the_cli() -> None:
    ledger, applied = plain().add("web", C, 5)
    assert applied == Applied(True, f"added {C} of pool web with weight 5")
    assert ledger.entries("web")[-1] == LedgerEntry(
        address=C, weight=5, admin=AdminState.READY, origin="cli"
    )
    assert addresses(plain()) == [A, B], "a ledger never changes"


def test_weight_1_is_meant_when_none_is_given() -> None:
    assert entry(plain().add("web", C, None)[0], C).weight == 1


def test_adding_what_is_there_changes_nothing() -> None:
    for weight in (None, 2):
        ledger, applied = plain().add("web", B, weight)
        assert applied == Applied(False, f"{B} of pool web is there already")
        assert ledger.overlay() == {"pools": {}}


def test_adding_what_drains_says_so() -> None:
    ledger, _ = plain().drain("web", B)
    assert ledger.add("web", B, None)[1].message.endswith("is there already (draining)")


@pytest.mark.parametrize("weight", [0, 7])
def test_adding_what_is_there_with_another_weight_sets_the_weight(weight: int) -> None:
    ledger, applied = plain().add("web", B, weight)
    assert applied == Applied(True, f"{B} of pool web is there already; its weight is now {weight}")
    assert entry(ledger, B) == LedgerEntry(
        address=B, weight=weight, admin=AdminState.READY, origin="file", overridden=("weight",)
    )


@pytest.mark.parametrize(("given_weight", "weight"), [(None, 2), (9, 9)])
def test_adding_what_was_removed_brings_it_back_ready(given_weight: int, weight: int) -> None:
    drained, _ = plain().drain("web", B)
    removed, _ = drained.remove("web", B)
    assert addresses(removed) == [A]
    ledger, applied = removed.add("web", B, given_weight)
    assert applied == Applied(True, f"added {B} of pool web back with weight {weight}")
    assert entry(ledger, B).admin is AdminState.READY
    assert entry(ledger, B).weight == weight


@pytest.mark.parametrize(
    ("order", "admin", "word"),
    [
        ("drain", AdminState.DRAINING, "draining"),
        ("maintenance", AdminState.MAINTENANCE, "in maintenance"),
    ],
)
def test_admin_states_are_set_once(order: str, admin: AdminState, word: str) -> None:
    ledger, applied = getattr(plain(), order)("web", A)
    assert applied == Applied(True, f"{A} of pool web is now {word} (was ready)")
    assert entry(ledger, A).admin is admin
    assert entry(ledger, A).overridden == ("admin",)
    again, applied = getattr(ledger, order)("web", A)
    assert applied == Applied(False, f"{A} of pool web is {word} already")
    assert again.overlay() == ledger.overlay()


def test_what_is_as_in_the_file_again_leaves_no_trace() -> None:
    ledger, _ = plain().drain("web", A)
    ledger, _ = ledger.set_weight("web", A, 4)
    ledger, _ = ledger.ready("web", A)
    ledger, applied = ledger.set_weight("web", A, 1)
    assert applied == Applied(True, f"the weight of {A} of pool web is now 1 (was 4)")
    assert ledger.overlay() == {"pools": {}}


def test_a_weight_is_set_once() -> None:
    assert plain().set_weight("web", A, 1)[1] == Applied(
        False, f"the weight of {A} of pool web is 1 already"
    )


@pytest.mark.parametrize("address", [A, C])
def test_removing_twice_is_no_error(address: str) -> None:
    """Also for what only the operator knew, and also after a restart."""
    ledger, _ = plain().add("web", C, 1)
    ledger, applied = ledger.remove("web", address)
    assert applied == Applied(True, f"removed {address} of pool web")
    assert address not in addresses(ledger)
    for again in (ledger, Ledger.of(FILE, stored(ledger))):
        assert again.remove("web", address)[1] == Applied(
            False, f"{address} of pool web was removed already"
        )


def test_what_comes_back_stands_last() -> None:
    ledger = Ledger.of({"web": {}}, None)
    for address in (A, B, C):
        ledger, _ = ledger.add("web", address, 1)
    ledger, _ = ledger.remove("web", A)
    ledger, _ = ledger.add("web", A, 1)
    assert addresses(ledger) == [B, C, A]
    assert addresses(Ledger.of({"web": {}}, stored(ledger))) == [B, C, A]


def test_removed_addresses_do_not_pile_up() -> None:
    ledger = Ledger.of({"web": {}}, None)
    for port in range(1, GONE_MAX + 10):
        ledger, _ = ledger.add("web", f"h:{port}", 1)
        ledger, _ = ledger.remove("web", f"h:{port}")
    pools = ledger.overlay()["pools"]
    assert isinstance(pools, dict)
    assert len(pools["web"]) == GONE_MAX
    assert pools["web"][-1]["address"] == f"h:{GONE_MAX + 9}"


def test_the_latest_removals_are_those_remembered() -> None:
    """Not those of the backends that came last."""
    hosts = [f"h:{port}" for port in range(1, GONE_MAX + 2)]
    ledger = Ledger.of({"web": {}}, None)
    for address in hosts:
        ledger, _ = ledger.add("web", address, 1)
    for address in reversed(hosts):
        ledger, _ = ledger.remove("web", address)
    assert not ledger.remove("web", hosts[0])[1].changed
    with pytest.raises(Refused):
        ledger.remove("web", hosts[-1])


def test_every_spelling_of_an_address_is_the_same_backend() -> None:
    ledger = Ledger.of({"web": {"LOCALHOST:80": 1, "[0::1]:80": 1}}, None)
    assert addresses(ledger) == ["localhost:80", "[::1]:80"]
    ledger, _ = ledger.drain("web", "LocalHost:080")
    assert entry(ledger, "localhost:80").admin is AdminState.DRAINING
    assert not ledger.add("web", "[0:0::1]:80", None)[1].changed


# ---- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "arguments", "message"),
    [
        ("drain", ("wbe", A), "there is no pool 'wbe'; did you mean 'web'?"),
        ("remove", ("zzz", A), "there is no pool 'zzz'; there is web, api"),
        ("add", ("wbe", C, None), "there is no pool 'wbe'; did you mean 'web'?"),
        (
            "ready",
            ("web", "10.0.0.9:80"),
            f"pool web has no backend '10.0.0.9:80'; did you mean '{B}'?",
        ),
        ("remove", ("web", "10.0.0.2"), f"pool web has no backend '10.0.0.2'; did you mean '{B}'?"),
        ("maintenance", ("web", "q"), f"pool web has no backend 'q'; it has {A}, {B}"),
        ("add", ("web", "10.0.0.3", None), "'10.0.0.3': a port is missing; write 10.0.0.3:8080"),
        ("add", ("web", C, 1001), "weight 1001: expected 0 to 1000 (0 takes no new requests)"),
        ("set_weight", ("web", A, -1), "weight -1: expected 0 to 1000 (0 takes no new requests)"),
        ("set_weight", ("web", "q", 1), f"pool web has no backend 'q'; it has {A}, {B}"),
    ],
)
def test_what_names_nothing_is_refused_with_a_hint(
    order: str, arguments: tuple[object, ...], message: str
) -> None:
    with pytest.raises(Refused) as refused:
        getattr(plain(), order)(*arguments)
    assert refused.value.message == str(refused.value) == message


def test_orders_for_what_was_removed_say_so() -> None:
    ledger, _ = plain().remove("web", A)
    with pytest.raises(Refused, match="was removed; add it first"):
        ledger.drain("web", A)


def test_an_empty_pool_has_none_to_suggest() -> None:
    with pytest.raises(Refused, match="pool web has no backend 'q'; it has none"):
        Ledger.of({"web": {}}, None).drain("web", "q")


# ---- the file wins when it changes that backend --------------------------------------------------


def test_an_order_outlives_changes_of_other_backends() -> None:
    ledger, _ = plain().drain("web", A)
    ledger, _ = ledger.add("web", C, 3)
    new_file = {"web": {"10.0.0.7:80": 1, B: 9, A: 1}}
    reloaded = Ledger.of(new_file, stored(ledger))
    assert entry(reloaded, A).admin is AdminState.DRAINING
    assert addresses(reloaded) == ["10.0.0.7:80", B, A, C]
    assert reloaded.notes == ()


@pytest.mark.parametrize(
    ("order", "was"),
    [
        (lambda ledger: ledger.drain("web", B), "draining"),
        (lambda ledger: ledger.set_weight("web", B, 7), "set to weight 7"),
        (lambda ledger: ledger.remove("web", B), "removed by the operator"),
    ],
)
def test_the_file_wins_when_it_changes_that_backend(order: object, was: str) -> None:
    assert callable(order)
    ledger, _ = order(plain())
    reloaded = Ledger.of({"web": {A: 1, B: 3}}, stored(ledger))
    assert entry(reloaded, B) == LedgerEntry(
        address=B, weight=3, admin=AdminState.READY, origin="file"
    )
    assert reloaded.notes == (
        f"{B} of pool web: no longer {was}, because the file has changed that backend since",
    )
    gone = Ledger.of({"web": {A: 1}}, stored(ledger))
    assert addresses(gone) == [A]


def test_the_file_wins_when_it_takes_up_what_the_operator_added() -> None:
    ledger, _ = plain().add("web", C, 3)
    ledger, _ = ledger.drain("web", C)
    reloaded = Ledger.of({"web": {A: 1, B: 2, C: 3}}, stored(ledger))
    assert entry(reloaded, C).origin == "file"
    assert entry(reloaded, C).admin is AdminState.READY
    assert "no longer added by the operator, draining, because" in reloaded.notes[0]


def test_orders_go_with_their_pool() -> None:
    ledger, _ = plain().add("web", C, 3)
    assert Ledger.of({"api": {}}, stored(ledger)).notes == (
        f"{C} of pool web: no longer added by the operator, "
        "because the file no longer has that pool",
    )


# ---- damage --------------------------------------------------------------------------------------

GOOD = {"address": C, "file": None, "weight": 4, "admin": "draining", "removed": False}


@pytest.mark.parametrize(
    ("damaged", "note"),
    [
        ([], "damaged as a whole"),
        ("x", "damaged as a whole"),
        ({"pools": 3}, "damaged as a whole"),
        ({"pools": {"web": 3}}, "all orders for pool 'web'"),
        ({"pools": {"w\x1b": []}}, r"all orders for pool 'w\x1b'"),
        ({"pools": {"web": [3]}}, "3 is no entry"),
        ({"pools": {"web": [{}]}}, "address None is no text"),
        ({"pools": {"web": [{**GOOD, "address": "10.0.0.1"}]}}, "a port is missing"),
        ({"pools": {"web": [{**GOOD, "admin": "asleep"}]}}, "'asleep' is no admin state"),
        ({"pools": {"web": [{**GOOD, "admin": []}]}}, "[] is no admin state"),
        ({"pools": {"web": [{**GOOD, "removed": 1}]}}, "1 is neither true nor false"),
        ({"pools": {"web": [{**GOOD, "weight": True}]}}, "weight True is not a number"),
        ({"pools": {"web": [{**GOOD, "weight": 1001}]}}, "weight 1001 is not a number"),
        ({"pools": {"web": [{**GOOD, "file": "1"}]}}, "weight '1' is not a number"),
        ({"pools": {"web": [{**GOOD, "weight": None}]}}, "has no weight"),
        ({"pools": {"web": [GOOD, GOOD]}}, f"a second order for {C} of pool web"),
    ],
)
def test_damaged_orders_are_let_go_and_noted(damaged: object, note: str) -> None:
    ledger = Ledger.of(FILE, damaged)
    assert len(ledger.notes) == 1
    assert note in ledger.notes[0]
    assert addresses(ledger)[:2] == [A, B]


def test_a_damaged_order_does_not_cost_the_others() -> None:
    ledger = Ledger.of(FILE, {"pools": {"web": [{"address": 1}, GOOD], "api": None}})
    assert entry(ledger, C).weight == 4
    assert len(ledger.notes) == 2


@pytest.mark.parametrize("nothing", [None, {}])
def test_nothing_stored_is_no_damage(nothing: object) -> None:
    assert Ledger.of(FILE, nothing).notes == ()


def test_a_stored_order_that_says_what_the_file_says_is_harmless() -> None:
    as_file = {"address": A, "file": 1, "weight": None, "admin": "ready", "removed": False}
    ledger = Ledger.of(FILE, {"pools": {"web": [as_file]}})
    assert ledger.entries("web") == plain().entries("web")
    note = Ledger.of({"web": {}}, {"pools": {"web": [as_file]}}).notes
    assert "no longer as in the file, because" in note[0]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from([A, C]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text() | st.sampled_from(["pools", "web", *GOOD]), inner, max_size=5)
    ),
)
ENTRIES = st.fixed_dictionaries(
    {}, optional={key: JSON | st.just(value) for key, value in GOOD.items()}
)


@given(JSON | ENTRIES.map(lambda one: {"pools": {"web": [one]}}))
def test_no_stored_overlay_ever_breaks_the_start(overlay: object) -> None:
    ledger = Ledger.of(FILE, overlay)
    again = Ledger.of(FILE, stored(ledger))
    assert again.notes == ()
    assert again.entries("web") == ledger.entries("web")


# ---- any orders in any sequence ------------------------------------------------------------------

POOLS = st.sampled_from(["web", "api"])
HOSTS = st.sampled_from([f"h{i}:80" for i in range(4)])
WEIGHT = st.integers(0, 3)
FILES = st.fixed_dictionaries(
    {"web": st.dictionaries(HOSTS, WEIGHT), "api": st.dictionaries(HOSTS, WEIGHT)}
)
Key = tuple[str, str]


class LedgerMachine(RuleBasedStateMachine):
    """Against a model: what should be there, and which backends the operator has orders for."""

    def __init__(self) -> None:
        super().__init__()
        self.file: dict[str, dict[str, int]] = {"web": {"h0:80": 1, "h1:80": 2}, "api": {}}
        self.ledger = Ledger.of(self.file, None)
        self.wanted: dict[Key, tuple[int, AdminState]] = dict(self.of_file())
        self.gone: set[Key] = set()

    def of_file(self) -> dict[Key, tuple[int, AdminState]]:
        return {
            (pool, address): (weight, AdminState.READY)
            for pool, backends in self.file.items()
            for address, weight in backends.items()
        }

    def order(self, name: str, *arguments: object, changes: bool) -> None:
        """Give it twice: the second time it holds already."""
        ledger, applied = getattr(self.ledger, name)(*arguments)
        assert applied.changed is changes, applied.message
        assert applied.message
        again, applied = getattr(ledger, name)(*arguments)
        assert not applied.changed
        assert again.overlay() == ledger.overlay()
        self.ledger = ledger

    def refused(self, name: str, *arguments: object) -> None:
        before = self.ledger.overlay()
        with pytest.raises(Refused):
            getattr(self.ledger, name)(*arguments)
        assert self.ledger.overlay() == before

    @rule(pool=POOLS, address=HOSTS, weight=WEIGHT | st.none())
    def add(self, pool: str, address: str, weight: int | None) -> None:
        key = (pool, address)
        if key in self.wanted:
            old, admin = self.wanted[key]
            new = (old if weight is None else weight, admin)
        else:
            by_file = self.file[pool].get(address, 1)
            new = (by_file if weight is None else weight, AdminState.READY)
        self.order("add", pool, address, weight, changes=self.wanted.get(key) != new)
        self.wanted[key] = new
        self.gone.discard(key)

    @rule(
        pool=POOLS,
        address=HOSTS,
        order=st.sampled_from(
            [
                ("drain", AdminState.DRAINING),
                ("ready", AdminState.READY),
                ("maintenance", AdminState.MAINTENANCE),
            ]
        ),
    )
    def set_admin(self, pool: str, address: str, order: tuple[str, AdminState]) -> None:
        key, (name, admin) = (pool, address), order
        if key not in self.wanted:
            self.refused(name, pool, address)
            return
        weight, before = self.wanted[key]
        self.order(name, pool, address, changes=before is not admin)
        self.wanted[key] = (weight, admin)

    @rule(pool=POOLS, address=HOSTS, weight=WEIGHT)
    def set_weight(self, pool: str, address: str, weight: int) -> None:
        key = (pool, address)
        if key not in self.wanted:
            self.refused("set_weight", pool, address, weight)
            return
        before, admin = self.wanted[key]
        self.order("set_weight", pool, address, weight, changes=before != weight)
        self.wanted[key] = (weight, admin)

    @rule(pool=POOLS, address=HOSTS)
    def remove(self, pool: str, address: str) -> None:
        key = (pool, address)
        if key in self.wanted or key in self.gone:
            self.order("remove", pool, address, changes=key in self.wanted)
            self.wanted.pop(key, None)
            self.gone.add(key)
        else:
            self.refused("remove", pool, address)

    @rule()
    def restart(self) -> None:
        self.ledger = Ledger.of(self.file, stored(self.ledger))
        assert self.ledger.notes == ()

    @rule(pool=POOLS, address=HOSTS, weight=WEIGHT | st.none())
    def the_file_changes_one_backend(self, pool: str, address: str, weight: int | None) -> None:
        """It wins for that backend, and for no other."""
        before = self.file[pool].get(address)
        backends = {a: w for a, w in self.file[pool].items() if a != address}
        if weight is not None:
            backends[address] = weight
        self.file = {**self.file, pool: backends}
        self.ledger = Ledger.of(self.file, stored(self.ledger))
        key = (pool, address)
        if before != weight:
            self.gone.discard(key)
            self.wanted.pop(key, None)
            if weight is not None:
                self.wanted[key] = (weight, AdminState.READY)

    @invariant()
    def what_is_wanted_is_there(self) -> None:
        seen = {
            (pool, each.address): (each.weight, each.admin)
            for pool in self.file
            for each in self.ledger.entries(pool)
        }
        assert seen == self.wanted

    @invariant()
    def the_overlay_holds_what_differs_from_the_file_and_nothing_else(self) -> None:
        pools = self.ledger.overlay()["pools"]
        assert isinstance(pools, dict)
        kept = {(pool, item["address"]) for pool, items in pools.items() for item in items}
        by_file = self.of_file()
        differs = {key for key, want in self.wanted.items() if by_file.get(key) != want}
        assert kept == differs | self.gone

    @invariant()
    def origins_are_told(self) -> None:
        for pool, backends in self.file.items():
            for each in self.ledger.entries(pool):
                assert each.origin == ("file" if each.address in backends else "cli")

    @invariant()
    def the_files_backends_stand_first_in_their_order(self) -> None:
        for pool, backends in self.file.items():
            seen = [e.address for e in self.ledger.entries(pool)]
            of_file = [a for a in seen if a in backends]
            assert seen[: len(of_file)] == of_file == [a for a in backends if a in seen]


TestLedgerMachine = LedgerMachine.TestCase


@st.composite
def orders_for_different_backends(draw: st.DrawFn) -> list[tuple[str, tuple[object, ...]]]:
    hosts = draw(st.lists(HOSTS, unique=True, min_size=2))
    orders: list[tuple[str, tuple[object, ...]]] = []
    for address in hosts:
        name = draw(st.sampled_from(["add", "drain", "maintenance", "set_weight", "remove"]))
        weight = (draw(WEIGHT),) if name in {"add", "set_weight"} else ()
        orders.append((name, ("web", address, *weight)))
    return orders


@given(FILES, orders_for_different_backends(), st.randoms())
def test_orders_for_different_backends_may_come_in_any_order(
    file: dict[str, dict[str, int]],
    orders: list[tuple[str, tuple[object, ...]]],
    rng: random.Random,
) -> None:
    def after(sequence: list[tuple[str, tuple[object, ...]]]) -> set[LedgerEntry]:
        ledger = Ledger.of(file, None)
        for name, arguments in sequence:
            try:
                ledger, _ = getattr(ledger, name)(*arguments)
            except Refused:
                continue
        return set(ledger.entries("web"))

    shuffled = list(orders)
    rng.shuffle(shuffled)
    assert after(shuffled) == after(orders)


@given(FILES, FILES, orders_for_different_backends())
def test_the_file_wins_exactly_for_the_backends_it_changes(
    old: dict[str, dict[str, int]],
    new: dict[str, dict[str, int]],
    orders: list[tuple[str, tuple[object, ...]]],
) -> None:
    ledger = Ledger.of(old, None)
    for name, arguments in orders:
        try:
            ledger, _ = getattr(ledger, name)(*arguments)
        except Refused:
            continue
    before = {each.address: each for each in ledger.entries("web")}
    after = {each.address: each for each in Ledger.of(new, stored(ledger)).entries("web")}
    for address in [f"h{i}:80" for i in range(4)]:
        if old["web"].get(address) == new["web"].get(address):
            assert after.get(address) == before.get(address)
        elif address in new["web"]:
            assert after[address] == LedgerEntry(
                address=address,
                weight=new["web"][address],
                admin=AdminState.READY,
                origin="file",
            )
        else:
            assert address not in after
