"""The old side of an upgrade, with new programs that do as they like."""

import os
import signal
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import trio

from balancer.admin.control import NotApplied
from balancer.supervisor import succession
from balancer.supervisor.bequest import VARIABLE
from balancer.supervisor.ending import Ending, Haste
from balancer.supervisor.events import EventLog
from balancer.supervisor.succession import Affairs, Succession
from balancer.supervisor.successor import (
    Command,
    Successor,
    command_of_this_process,
    start_successor,
)

# A new program that speaks; `says` is what follows when it has everything.
PROGRAM = """
import os, socket, sys, time, trio
from balancer.supervisor import bequest
from balancer.supervisor.heritage import channel_to_predecessor, inherited
async def main():
    heritage = await inherited(channel)
    {says}
channel = channel_to_predecessor(os.environ)
trio.run(main)
"""
PREPARED = "turn = await heritage.our_turn('9.9'); "


class Play:
    """An instance of which only what an upgrade touches is there."""

    def __init__(self, *words: str) -> None:
        self.command = Command(words=words, folder=str(Path.cwd()))
        self.done: list[str] = []
        self.vacant = True
        self.started: list[Successor] = []
        self.events = EventLog(wall=lambda: 0.0)
        self.ending = Ending(limit_s=lambda: 1.0, events=self.events)
        self.succession = Succession(
            Affairs(
                outside=self,
                handles=list,
                in_order=tuple,
                rows=lambda: nullcontext({1}),
                limit_s=lambda: 0.0,
                reception=self,  # type: ignore[arg-type]
                orders=self,  # type: ignore[arg-type]
                lock=trio.Lock(),
                ending=self.ending,
                events=self.events,
                pid=os.getpid(),
                pass_on=lambda pid: self.done.append("passed on"),
            )
        )

    # the process
    async def start(self) -> Successor:
        self.started.append(await start_successor(self.command, os.environ))
        return self.started[-1]

    def handles(self) -> list[Any]:
        return []

    def leave(self) -> None:
        self.done.append("left")

    def is_vacant(self) -> bool:
        return self.vacant

    def clear(self, pid: int) -> None:
        self.done.append("cleared")

    # the reception
    def shut(self) -> None:
        self.done.append("shut")

    def open(self) -> None:
        self.done.append("open")

    # the orders
    ledger = None

    def document(self, ledger: object) -> dict[str, object]:
        return {"overlay": {}}

    async def pass_on(self, take: Any) -> None:
        await take({"overlay": {"last": 1}})


def speaking(says: str) -> Play:
    return Play(sys.executable, "-c", PROGRAM.format(says=says))


async def refused(play: Play, effect: str = "goes on as before") -> str:
    with pytest.raises(NotApplied) as failure:
        await play.succession.upgrade()
    for successor in play.started:
        await successor.wait()  # nothing is left of it
    assert str(failure.value).endswith(f"this process {effect}")
    assert play.events.recent(0)[-1]["kind"] == "instance.not_upgraded"
    assert "passed on" not in play.done
    return str(failure.value)


async def test_a_program_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(succession, "PREPARE_S", 1.5)  # and the shell has said its word by then
    play = Play("sh", "-c", "echo on my way >&2; exec sleep 60")
    assert "was not ready within 1.5 s / on my way" in await refused(play)
    assert play.done == ["cleared"]


async def test_a_program_that_hangs_while_it_takes_over_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(succession, "TAKE_OVER_S", 0.3)
    play = speaking(PREPARED + "time.sleep(60)")
    assert "did not take over within 0.3 s" in await refused(play)
    assert play.done == ["shut", "open", "cleared"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("sh", "-c", "echo first >&2; echo last >&2; exit 3"), "exit code 3: first / last"),
        (("sh", "-c", "kill -9 $$"), "killed by signal 9"),
        (("/nowhere/balancer",), "the installed program: cannot start /nowhere/balancer"),
    ],
)
async def test_why_a_program_does_not_come_up_is_told(words: tuple[str, ...], why: str) -> None:
    assert why in await refused(Play(*words))


@pytest.mark.parametrize(
    ("says", "why"),
    [
        ("heritage.failed('the moon is full')", "does not come up: the moon is full"),
        (PREPARED + "heritage.failed('too late')", "could not take over: too late"),
        ("heritage.took_over()", "said what makes no sense"),
        ("channel._sock.send(bytes([0,0,0,3,0,0]) + b'abc'); time.sleep(60)", "another version"),
    ],
)
async def test_a_program_that_says_why_is_heard(says: str, why: str) -> None:
    assert why in await refused(speaking(says))


async def test_a_program_that_takes_over_is_given_all_that_changed_last() -> None:
    says = "assert turn.document == {'overlay': {'last': 1}}; heritage.took_over(); time.sleep(60)"
    play = speaking(PREPARED + says)
    play.events.add("listener.open", cause="somewhere")
    done = await play.succession.upgrade()
    assert f"process {play.started[0].pid} (version 9.9) serves now" in done.message
    assert play.done == ["shut", "passed on"]
    await play.started[0].end()


async def test_who_asks_for_an_upgrade_that_another_has_got_is_told_to_ask_again() -> None:
    """It is no failure, and nobody says that this process goes on or ends."""
    play = speaking(PREPARED + "time.sleep(0.3); heritage.took_over(); time.sleep(60)")
    told: list[str] = []

    async def ask() -> None:
        try:
            await play.succession.upgrade()
        except NotApplied as failure:
            told.append(str(failure))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        nursery.start_soon(ask)
    assert told == ["another process has taken over; ask again, and it will answer"]
    assert len(play.started) == 1
    assert play.events.recent(0) == []
    await play.started[0].end()


async def test_what_is_meant_for_whoever_serves_reaches_the_process_that_has_taken_over() -> None:
    play = speaking(PREPARED + "heritage.took_over(); time.sleep(60)")
    await play.succession.upgrade()
    assert play.succession.signal_heir(signal.SIGHUP) == play.started[0].pid
    with trio.fail_after(5):
        assert await play.started[0].wait() == "was killed by signal 1"
    play.succession.signal_heir(signal.SIGHUP)
    await play.started[0].end()


async def test_a_stop_ends_an_upgrade_that_is_not_ready() -> None:
    play = Play("sleep", "60")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(refused, play, "ends, as it was told to")
        await trio.sleep(0.2)
        play.ending.ask(Haste.LIMITED)
    assert "told to stop meanwhile" in str(play.events.recent(0)[-1]["cause"])


async def test_a_stop_that_comes_too_late_for_that_is_passed_on(tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    waits = f"[time.sleep(0.01) for _ in iter(lambda: os.path.exists({str(asked)!r}), True)]; "
    play = speaking(PREPARED + waits + "heritage.took_over(); time.sleep(60)")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(play.succession.upgrade)
        while "shut" not in play.done:  # noqa: ASYNC110 - what is looked at does not tell
            await trio.sleep(0.01)
        play.ending.ask(Haste.LIMITED)
        asked.touch()
    assert play.done == ["shut", "passed on"]
    with trio.fail_after(5):
        assert await play.started[0].wait() == "was killed by signal 15"
    await play.started[0].end()


@pytest.mark.parametrize(("end", "level"), [("os._exit(0)", "info"), ("os._exit(7)", "error")])
async def test_only_a_successor_that_fails_is_an_error(
    end: str, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, str]] = []

    class Log:
        def __getattr__(self, name: str) -> Any:
            return lambda event, **_: told.append((name, event))

    monkeypatch.setattr(succession, "get_logger", Log)
    play = speaking(PREPARED + f"heritage.took_over(); time.sleep(0.2); {end}")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(play.succession.watch)
        await play.succession.upgrade()
    assert told == [(level, "successor.ended")]
    assert play.succession.lost.is_set() is (level == "error")
    await play.started[0].end()


async def test_a_successor_that_has_handed_over_in_turn_may_end_as_it_likes() -> None:
    play = speaking(PREPARED + "heritage.took_over(); time.sleep(0.2); os._exit(7)")
    play.vacant = False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(play.succession.watch)
        await play.succession.upgrade()
    assert not play.succession.lost.is_set()
    await play.started[0].end()


async def test_the_new_program_has_its_own_part_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What named the old process is gone, and the channel is there."""
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    play = Play("sh", "-c", f"env > {tmp_path}/env; ls -l /proc/$$/fd > {tmp_path}/fd; exit 1")
    await refused(play)
    env = (tmp_path / "env").read_text()
    assert f"\n{VARIABLE}=" in env
    assert "LISTEN_FDS" not in env
    assert "WATCHDOG_PID" not in env
    numbers = [line for line in (tmp_path / "fd").read_text().splitlines() if "->" in line]
    assert len(numbers) <= 6, "standard ones, the channel, standard error, and what sh has open"


def test_the_command_follows_links_that_were_replaced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A script by its own name; the folder as it was entered."""
    (tmp_path / "v1").mkdir()
    (tmp_path / "current").symlink_to("v1")
    script = tmp_path / "balancer"
    script.write_text("#!/bin/sh\n")
    monkeypatch.chdir(tmp_path / "v1")
    monkeypatch.setattr(sys, "argv", [str(script), "run", "edge.toml"])
    monkeypatch.setattr(sys, "orig_argv", ["python", "-I", str(script), "run", "edge.toml"])
    env = {"PWD": str(tmp_path / "current")}
    by_python = command_of_this_process(env)
    assert by_python.words == (sys.executable, "-I", str(script), "run", "edge.toml")
    script.chmod(0o755)
    by_script = command_of_this_process(env)
    assert by_script.words == (str(script), "run", "edge.toml")
    assert by_script.folder == str(tmp_path / "current")
    assert command_of_this_process({"PWD": "/"}).folder == str(tmp_path / "v1")
