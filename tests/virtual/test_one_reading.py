"""One reading only, through a whole balancer: what is refused is answered once, and that is the end.

The kinds are judged one by one in `tests/core/test_one_reading.py`; here they come over connections.
"""

import re

import pytest
import trio
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from balancer.rehearsal.virtual_time import run_virtual
from tests.support.attack_kinds import KINDS
from tests.support.attacks import Attack, stream_of
from tests.support.edge_client import Answer, EdgeClient, fetch
from tests.support.odd_answers import LEFTOVER, ODD_ANSWERS, OddAnswer, answer_of
from tests.support.scene import Scene, scene
from tests.support.strict_grammar import assert_request
from tests.support.virtual_backend import Line, Request, Script, answers, by_target

NO_EJECTION = "passive = { enabled = false }"
IMPATIENT = NO_EJECTION + '\ntimeouts = { response = "2s", idle = "2s" }'


@settings(max_examples=4, phases=[Phase.generate])
@given(data=st.data())
def test_what_is_refused_ends_its_connection_and_what_is_not_arrives_canonical(
    data: st.DataObject,
) -> None:
    """The bytes come at once, or in two pieces, wherever they are cut."""
    drawn = []
    for kind, attacks in KINDS.items():
        attack = data.draw(attacks)
        stream = data.draw(stream_of(attack))
        cut = data.draw(st.integers(0, len(stream)) | st.none())
        drawn.append((kind, attack, stream, cut))
    run_virtual(send_all, drawn, seed=1)


async def send_all(drawn: list[tuple[str, Attack, bytes, int | None]]) -> None:
    async with scene({"a": answers(200, b"ok")}, pool=NO_EJECTION) as play:
        for kind, attack, stream, cut in drawn:
            try:
                with trio.fail_after(60):
                    await send_one(play, attack, stream, cut)
            except BaseException as exc:
                exc.add_note(f"{kind}: {stream!r}, cut at {cut}")
                raise
        await play.settled()
        assert play.at_rest()


async def send_one(play: Scene, attack: Attack, stream: bytes, cut: int | None) -> None:
    seen = play.backends["a"].requests
    before = len(seen)
    client = await play.client()
    await client.send(stream[:cut])
    if cut is not None:
        await trio.sleep(0.1)
        await client.send(stream[cut:])
    if attack.statuses:
        assert (await client.answer()).status in attack.statuses
        assert await client.at_end()
        assert len(seen) == before
    else:
        for _ in range(1 if attack.closes else 2):
            assert (await client.answer()).status == 200
        assert not attack.closes or await client.at_end()
        arrived = seen[before:]
        assert [request.target == "/canary" for request in arrived] == (
            [False] if attack.closes else [False, True]
        )
        for request in arrived:
            assert_request(request.raw)
        assert not re.search(attack.never, arrived[0].raw, re.IGNORECASE)
    client.close()


# ---- answers


@settings(max_examples=4, phases=[Phase.generate])
@given(data=st.data())
def test_an_odd_answer_is_refused_or_cut_and_what_stands_behind_it_answers_nobody(
    data: st.DataObject,
) -> None:
    drawn = []
    for kind, odd in ODD_ANSWERS.items():
        answer = data.draw(odd)
        stream = data.draw(answer_of(answer))
        # What comes only after a whole answer, when the next request has gone, nobody can tell
        # from the answer to that.
        whole = len(stream) - len(LEFTOVER)
        cut = data.draw(st.none() | st.integers(0, whole - 1) | st.integers(whole + 1, len(stream)))
        drawn.append((kind, answer, stream, cut))
    run_virtual(answer_all, drawn, seed=1)


async def answer_all(drawn: list[tuple[str, OddAnswer, bytes, int | None]]) -> None:
    for kind, answer, stream, cut in drawn:
        scripts = {"/odd": in_pieces(stream, cut)}
        backend = by_target(scripts, answers(200, b"ok"))
        async with scene({"a": backend}, pool=IMPATIENT) as play:
            try:
                with trio.fail_after(600):
                    await ask_one(play, answer)
            except BaseException as exc:
                exc.add_note(f"{kind}: {stream!r}, cut at {cut}")
                raise
            await play.settled()
            assert play.at_rest()


@pytest.mark.parametrize(
    ("head", "connections"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", 1),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", 1),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\n", 2),
        (b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", 2),
    ],
)
def test_a_connection_on_which_a_body_may_follow_is_not_used_again(
    head: bytes, connections: int
) -> None:
    """Some send what they announce, and it would be taken for the answer to the next request."""

    async def ask_twice() -> None:
        async with scene({"a": in_pieces(head, None)}) as play:
            client = await play.client()
            for _ in range(2):
                answer = await client.get()
                assert (answer.status, answer.header("content-length")) == (204, None)
            assert play.backends["a"].connections == connections

    run_virtual(ask_twice, seed=1)


def in_pieces(stream: bytes, cut: int | None) -> Script:
    async def script(line: Line, _: Request) -> bool:
        await line.send(stream[:cut])
        if cut is not None:
            await trio.sleep(0.1)
            await line.send(stream[cut:])
        return True

    return script


async def ask_one(play: Scene, odd: OddAnswer) -> None:
    """Twice on one connection, if that lives on, and once on another."""
    client = await play.client()
    await client.send(b"%s /odd HTTP/1.1\r\nHost: a\r\n\r\n" % odd.method.encode())
    got = await final(client, odd.method)
    if odd.passes:
        assert (got.status, got.complete) == (int(odd.start.split()[1]), True)
        assert (await client.get("/next")).body == b"ok"
    else:
        assert got.status == 502 or not got.complete
    assert b"evil" not in got.head.lower() + got.body + client.buffer
    client.close()
    assert (await fetch(play.network, "/other")).body == b"ok"


async def final(client: EdgeClient, method: str) -> Answer:
    while (answer := await client.answer(method)).status < 200:
        assert b"evil" not in answer.head
    return answer
