"""What a new configuration changes, and how that reads; what it may not, and what to do instead."""

import re

import pytest

from balancer.config.load import load_text
from balancer.config.settings import Settings
from balancer.core.backend import AdminState
from balancer.core.ledger import Ledger
from balancer.supervisor.reload_plan import (
    CannotReload,
    ReloadPlan,
    differing,
    plan_reload,
    weights_of,
)

TEXT = """
[[listeners]]
bind = "127.0.0.1:8080"
[admin]
socket = "/run/balancer/admin.sock"
state = "/var/lib/balancer/state.json"
[pools.web]
backends = ["10.0.0.1:80", "10.0.0.2:80"]
[pools.web.health]
path = "/health"
[pools.api]
backends = ["10.0.1.1:80"]
[[routes]]
path = "/api"
pool = "api"
[[routes]]
pool = "web"
"""


def settings(*edits: tuple[str, str], text: str = TEXT) -> Settings:
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    return load_text(text, "t.toml", {})


def ledger_of(running: Settings) -> Ledger:
    return Ledger.of(weights_of(running), None)


def planned(*edits: tuple[str, str], ledger: Ledger | None = None) -> ReloadPlan:
    running = settings()
    return plan_reload(running, ledger or ledger_of(running), settings(*edits))


def test_the_same_file_changes_nothing() -> None:
    plan = planned()
    assert not plan.changes
    assert plan.in_words == "nothing changed"


def test_backends_weights_and_listeners_are_counted_by_pool() -> None:
    plan = planned(
        ('"10.0.0.1:80", "10.0.0.2:80"', '{address = "10.0.0.2:80", weight = 3}, "10.0.0.3:80"'),
        ('bind = "127.0.0.1:8080"', 'bind = "127.0.0.1:8081"'),
    )
    assert plan.changes
    assert plan.in_words == (
        "pool web: 1 backend added, 1 backend removed, 1 weight changed; "
        "listener 127.0.0.1:8081 added; listener 127.0.0.1:8080 removed"
    )
    (web,) = plan.pools
    assert [entry.address for entry in web.added] == ["10.0.0.3:80"]
    assert [entry.address for entry in web.removed] == ["10.0.0.1:80"]
    assert [(old.weight, new.weight) for old, new in web.altered] == [(1, 3)]
    assert (plan.opened, plan.closed) == (("127.0.0.1:8081",), ("127.0.0.1:8080",))


def test_pools_come_and_go() -> None:
    plan = planned(("[pools.api]", "[pools.apis]"), ('pool = "api"', 'pool = "apis"'))
    assert (plan.new_pools, plan.gone_pools, plan.pools) == (("apis",), ("api",), ())
    assert plan.in_words == "pool apis added; pool api removed; routes changed"


def test_settings_are_told_by_name() -> None:
    plan = planned(
        ('path = "/health"', 'path = "/healthz"\ninterval = "1s"'),
        ("[pools.api]", '[pools.api]\npolicy = "weighted-round-robin"'),
        ("[[listeners]]", "workers = 3\n[[listeners]]"),
    )
    assert plan.in_words == (
        "pool web: health.interval, health.path changed; pool api: policy changed; workers changed"
    )


def test_a_table_that_comes_or_goes_is_told_as_one() -> None:
    plan = planned(('[pools.web.health]\npath = "/health"\n', ""))
    assert plan.in_words == "pool web: health changed"


def test_another_order_of_backends_is_a_change_without_a_word_for_each() -> None:
    plan = planned(('"10.0.0.1:80", "10.0.0.2:80"', '"10.0.0.2:80", "10.0.0.1:80"'))
    assert plan.changes
    assert plan.in_words == "only the order of entries changed"


def test_what_cannot_change_is_an_error_each_with_the_way_out() -> None:
    with pytest.raises(CannotReload) as refused:
        planned(
            ("/run/balancer/admin.sock", "/run/other.sock"),
            ('state = "/var/lib/balancer/state.json"', 'state = ""'),
            ("10.0.0.1:80", "10.0.0.9:80"),
        )
    first, second = str(refused.value).splitlines()
    assert first == (
        "admin.socket cannot change while running (it is /run/balancer/admin.sock, the file says "
        "/run/other.sock): change it back, or restart"
    )
    assert re.match(r"admin.state cannot change .* the file says none\)", second)


# ---- the operator's orders


def test_an_order_holds_where_the_file_says_the_same_of_that_backend() -> None:
    ledger, _ = ledger_of(settings()).drain("web", "10.0.0.1:80")
    ledger, _ = ledger.add("web", "10.0.0.9:80", 2)
    plan = planned(('"10.0.0.2:80"', '{address = "10.0.0.2:80", weight = 3}'), ledger=ledger)
    assert [(e.address, e.weight, e.admin) for e in plan.ledger.entries("web")] == [
        ("10.0.0.1:80", 1, AdminState.DRAINING),
        ("10.0.0.2:80", 3, AdminState.READY),
        ("10.0.0.9:80", 2, AdminState.READY),
    ]
    assert plan.in_words == "pool web: 1 weight changed"


def test_a_file_that_changes_a_drained_backend_overrules_the_drain() -> None:
    ledger, _ = ledger_of(settings()).drain("web", "10.0.0.1:80")
    plan = planned(('"10.0.0.1:80"', '{address = "10.0.0.1:80", weight = 3}'), ledger=ledger)
    assert plan.in_words == "pool web: 1 weight changed, 1 order overruled"
    assert plan.ledger.notes == (
        "10.0.0.1:80 of pool web: no longer draining, because the file has changed that backend"
        " since",
    )


def test_a_file_that_takes_over_an_order_changes_only_who_says_so() -> None:
    ledger, _ = ledger_of(settings()).add("web", "10.0.0.9:80", None)
    plan = planned(('"10.0.0.2:80"', '"10.0.0.2:80", "10.0.0.9:80"'), ledger=ledger)
    assert plan.changes
    assert [entry.origin for entry in plan.ledger.entries("web")] == ["file"] * 3
    assert plan.pools == ()


def test_differences_are_told_at_the_lowest_name_that_both_have() -> None:
    other = settings(("[[listeners]]", 'shutdown_timeout = "1s"\n[[listeners]]'))
    assert list(differing(settings(), other)) == ["shutdown_timeout"]
    assert list(differing(other, other)) == []
    assert list(differing(None, other, "x")) == ["x"]
