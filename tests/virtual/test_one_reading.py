"""One reading only, through a whole balancer: what is refused is answered once, and that is the end.

The kinds are judged one by one in `tests/core/test_one_reading.py`; here they come over connections.
"""

import re

import trio
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from balancer.rehearsal.virtual_time import run_virtual
from tests.support.attack_kinds import KINDS
from tests.support.attacks import Attack, stream_of
from tests.support.scene import Scene, scene
from tests.support.strict_grammar import assert_request
from tests.support.virtual_backend import answers

NO_EJECTION = "passive = { enabled = false }"


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
