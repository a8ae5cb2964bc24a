"""What must be so after a crash or a cancellation of one connection, whatever it was doing."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import trio

from tests.support.injection import Run
from tests.support.scene import Scene
from tests.support.transcript import Said, messages
from tests.support.virtual_pipes import VirtualPipes

# Where a crash ends the connection without a word, though something had been asked, and why.
SPEECHLESS = {
    "wire/lane.py:Lane._walk await rider.walk": "none of the connection's own code runs any more",
    "proxy/client_connection.py:ClientConnection._first_bytes await self._resting": (
        "what it has read stands nowhere yet"
    ),
}
_BEGINS = re.compile(rb"(?m)^(?:GET|HEAD|POST|PUT|OPTIONS)\b")


# ---- what is left ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Traces:
    """What a connection may leave behind."""

    counts: Mapping[str, int]

    @classmethod
    def of(cls, stage: Scene, pipes: VirtualPipes | None) -> "Traces":
        service = stage.stage.worker.service
        socks = stage.network.own_host.open_sockets()
        return cls(
            {
                "in flight or running": int(not stage.at_rest()),
                "connections counted": service.connections,
                "resting waiters": len(service.resting),
                "riders": len(service.lane._seats),
                "interruptions of riders": len(service.lane._interrupted),
                "deadlines kept": len(service.timekeeper._heap),
                "idle upstream connections": service.idle.count(),
                "sockets": len(socks),
                "pipes in use": 0 if pipes is None else pipes.in_use,
                "tasks": trio.lowlevel.current_statistics().tasks_living,
            }
        )


def left_over(before: Traces, after: Traces) -> Iterator[str]:
    """What is not as it was before."""
    for what, count in after.counts.items():
        if count != before.counts[what]:
            yield f"{what}: {before.counts[what]} before, {count} after"


# ---- what was told ---------------------------------------------------------------------------------


def judge(
    run: Run,
    got: bytes,
    end: str,
    lines: list[Any],
    stage: Scene,
    *,
    methods: tuple[str, ...],
    crashes_itself: bool,
    wanted: list[Said] | None,
) -> tuple[list[Said], list[str]]:
    """What the client was told, and what is wrong with that, or with what was written down."""
    said, rubbish = messages(got, methods, end)
    crashes = [line for line in lines if line["event"] == "connection.crashed"]
    ids = {record.request_id for record in stage.stage.access}
    complaints = [*_of_counts(stage, len(crashes))]
    if rubbish:
        complaints.append(f"what follows is no answer: {rubbish[:80]!r}")
    crashed = run.happened is not None and run.fault.crashes
    if not crashes_itself and len(crashes) != crashed:
        complaints.append(f"{len(crashes)} crashes logged: {crashes}")
    if run.happened is None:
        return said, complaints
    complaints += _of_answers(said, wanted or [])
    if crashed and not crashes_itself:
        if not end:
            complaints.append("the connection goes on")
        if end == "reset" and said and said[-1].status == 500:
            complaints.append("a 500, cut off by a reset from being read")
        complaints += _of_crash(run, said, methods, gone=end == "left", line=crashes[0], ids=ids)
    return said, complaints


def _of_counts(stage: Scene, logged: int) -> Iterator[str]:
    service, board = stage.stage.worker.service, stage.stage.crew.board
    if service.exchanges != len(stage.stage.access):
        yield f"{service.exchanges} exchanges, {len(stage.stage.access)} access lines"
    if board.crashes != logged:
        yield f"{board.crashes} crashes counted, {logged} logged"


def _of_answers(said: list[Said], wanted: list[Said]) -> Iterator[str]:
    for index, each in enumerate(said):
        right = index < len(wanted) and each.like(wanted[index])
        if each.whole and not right and each.status != 500:
            yield f"an answer that only looks whole: {each}"


def _of_crash(
    run: Run,
    said: list[Said],
    methods: tuple[str, ...],
    *,
    gone: bool,
    line: Mapping[str, object],
    ids: set[str],
) -> Iterator[str]:
    assert run.happened is not None
    assert run.target is not None
    read, sent = run.happened
    before, _ = messages(sent, methods, "")
    answered = sum(each.whole for each in before)
    begun = len(before) > answered
    owed = len(_BEGINS.findall(read)) > answered
    told = any(each.status == 500 for each in said)
    if told and (begun or not owed):
        yield f"a 500 that nobody has asked for: {said}"
    if not owed or run.target[-1] in SPEECHLESS:
        return
    if line.get("id") not in ids:
        yield f"logged with an id that is no request's: {line}"
    if not begun and len(said) <= answered and not gone:
        yield f"nothing had been sent, and no 500: {said}"
