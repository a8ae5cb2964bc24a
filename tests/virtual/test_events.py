"""The log of changes: numbered, bounded, told to those who follow."""

import pytest
import structlog
import trio
import trio.testing

from balancer.supervisor.events import EFFECT, EventKind, EventLog


def log_of(count: int, *, kept: int = 4) -> EventLog:
    log = EventLog(wall=lambda: 1_767_225_600.25, kept=kept)
    for number in range(count):
        log.add(EventKind.BACKEND_WEIGHT, cause=f"weight {number}", pool="web", backend="a:1")
    return log


def test_a_change_is_one_sentence_of_cause_and_effect() -> None:
    log = log_of(0)
    event = log.add(
        "backend.unhealthy", cause="3 of 3 probes failed: refused", pool="web", backend="a:1"
    )
    assert event.seq == 1
    assert event.at == "2026-01-01T00:00:00.250Z"
    assert event.sentence == "web a:1: 3 of 3 probes failed: refused; takes no new requests"


def test_a_change_of_the_instance_names_no_backend() -> None:
    event = log_of(0).add("instance.stopping", cause="signal TERM", effect="drains")
    assert event.sentence == "signal TERM; drains"


def test_a_kind_that_nobody_knows_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="exploded"):
        log_of(0).add("backend.exploded", cause="no")


def test_every_kind_has_an_effect() -> None:
    assert set(EFFECT) == set(EventKind)


def test_only_the_newest_are_kept_and_a_gap_is_told() -> None:
    log = log_of(10, kept=4)
    missed, kept = log.since(2)
    assert missed == 4
    assert [event.seq for event in kept] == [7, 8, 9, 10]
    assert log.since(6) == (0, kept)
    assert log.since(10) == (0, [])
    assert log.recent(2)[0] == {"missed": 4}


def test_each_change_is_logged_with_its_reason_and_alarms_are_warnings() -> None:
    with structlog.testing.capture_logs() as lines:
        log = log_of(0)
        log.add("pool.panic", cause="0 of 3 available", pool="web")
        log.add("instance.started", cause="run edge.toml")
    assert lines == [
        {
            "event": "pool.panic",
            "log_level": "warning",
            "pool": "web",
            "because": "0 of 3 available",
            "effect": "health and ejections are ignored",
        },
        {
            "event": "instance.started",
            "log_level": "info",
            "because": "run edge.toml",
            "effect": "serves from now on",
        },
    ]


async def test_everybody_who_waits_is_woken_by_a_change() -> None:
    log = log_of(1)
    woken: list[str] = []

    async def follower(name: str) -> None:
        await log.wait_newer(1)
        woken.append(name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follower, "first")
        nursery.start_soon(follower, "second")
        await trio.testing.wait_all_tasks_blocked()
        assert woken == []
        log.add("instance.stopped", cause="done")
    assert sorted(woken) == ["first", "second"]
