"""The end of an instance: how soon, asked how often, and what is told of it."""

import pytest
import trio
from trio.testing import MockClock

from balancer.supervisor.events import EventKind
from tests.support.edge_client import EdgeClient
from tests.support.scene import Scene, scene
from tests.support.virtual_backend import answers, trickles

MINUTE_LONG = trickles(b"x" * 60, piece=1, every_s=1.0)
TOP = 'shutdown_timeout = "3s"'


async def _asked(play: Scene) -> EdgeClient:
    client = await play.client()
    await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await trio.sleep(0.5)
    return client


def told(play: Scene, kind: EventKind) -> list[str]:
    return [
        event.sentence for event in play.stage.instance.events.since(0)[1] if event.kind is kind
    ]


async def test_asking_with_a_limit_shortens_a_stop_that_had_none(
    autojump_clock: MockClock,
) -> None:
    async with scene({"a": MINUTE_LONG}, top=TOP) as play:
        client = await _asked(play)
        play.stage.instance.stop_without_limit()
        await trio.sleep(10)
        assert play.stage.worker.service.running
        began = trio.current_time()
        play.stage.instance.stop_sooner()
        assert not (await client.answer()).complete
        assert trio.current_time() - began == pytest.approx(3, abs=1)


async def test_asking_without_a_limit_lengthens_no_stop(autojump_clock: MockClock) -> None:
    async with scene({"a": MINUTE_LONG}, top=TOP) as play:
        client = await _asked(play)
        began = trio.current_time()
        play.stage.instance.stop(now=False)
        play.stage.instance.stop_without_limit()
        assert not (await client.answer()).complete
        assert trio.current_time() - began == pytest.approx(3, abs=1)


@pytest.mark.parametrize("by", ["signal", "command"])
async def test_a_signal_that_would_change_nothing_ends_it_now(
    autojump_clock: MockClock, by: str
) -> None:
    async with scene({"a": MINUTE_LONG}, top='shutdown_timeout = "50s"') as play:
        client = await _asked(play)
        control = play.stage.instance
        if by == "signal":
            control.stop_sooner()
        else:
            control.stop(now=False)
        await trio.sleep(5)
        began = trio.current_time()
        control.stop(now=False)  # a command that is repeated is harmless
        await trio.sleep(5)
        control.stop_sooner()
        assert not (await client.answer()).complete
        assert trio.current_time() - began < 6.5


async def test_now_does_not_wait_for_the_readiness_delay(autojump_clock: MockClock) -> None:
    began = trio.current_time()
    async with scene({"a": answers(200)}, top='readiness_delay = "60s"') as play:
        play.stage.instance.stop(now=False)
        await trio.sleep(5)
        play.stage.instance.stop(now=True)
    assert trio.current_time() - began < 7
    assert len(told(play, EventKind.LISTENER_CLOSED)) == 1


async def test_every_step_says_what_what_runs_has_to_expect(autojump_clock: MockClock) -> None:
    async with scene({"a": MINUTE_LONG}, top=TOP) as play:
        await _asked(play)
        play.stage.instance.stop_without_limit()
        await trio.sleep(1)
        play.stage.instance.stop_sooner()
        await trio.sleep(1)
        play.stage.instance.stop_sooner()
    assert told(play, EventKind.INSTANCE_STOPPING) == [
        "asked to stop; not ready for new traffic; running exchanges may take as long as they need;"
        " TERM or Ctrl-C gives them 3 s",
        "asked again to stop; not ready for new traffic; running exchanges have 3 s to finish; one"
        " more TERM or Ctrl-C cuts them",
        "asked again to stop; not ready for new traffic; running exchanges are cut",
    ]
    assert told(play, EventKind.INSTANCE_STOPPED) == ["1 exchange was cut; serves no more"]


async def test_the_listeners_are_told_closed_when_they_close_and_not_after_the_drain(
    autojump_clock: MockClock,
) -> None:
    slow = answers(200, b"x", after_s=20)
    top = 'shutdown_timeout = "50s"\nreadiness_delay = "2s"'
    async with scene({"a": slow}, top=top) as play:
        client = await _asked(play)
        play.stage.instance.stop(now=False)
        await trio.sleep(1.9)
        assert told(play, EventKind.LISTENER_CLOSED) == []
        await trio.sleep(0.2)
        assert told(play, EventKind.LISTENER_CLOSED) == [
            "no longer listening on 127.0.0.1:8080; accepts no more connections"
        ]
        assert (await client.answer()).status == 200
    assert told(play, EventKind.INSTANCE_STOPPED) == ["every exchange has ended; serves no more"]


async def test_more_than_one_that_was_cut_is_counted(autojump_clock: MockClock) -> None:
    async with scene({"a": MINUTE_LONG}) as play:
        for _ in range(3):
            await _asked(play)
        play.stage.instance.stop(now=True)
    assert told(play, EventKind.INSTANCE_STOPPED) == ["3 exchanges were cut; serves no more"]
