"""A pool keeps itself up to date while requests flow: probes, ejections, panic, killed backends."""

from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock

from balancer.rehearsal.links import Fault
from balancer.rehearsal.virtual_time import run_virtual
from balancer.wire.streams import cut
from tests.support.edge_client import EdgeClient, fetch
from tests.support.scene import ADDRESSES, Scene, scene
from tests.support.virtual_backend import (
    Script,
    answers,
    by_target,
    in_turn,
    resets_after,
    silent,
)

HEALTH = '[pools.web.health]\npath = "/health"\ninterval = "2s"\ntimeout = "1s"\n'
NO_JITTER = HEALTH + "jitter = 0.0\n"


def app(health: Script, otherwise: Script | None = None) -> Script:
    """A backend with a health path of its own."""
    return by_target({"/health": health}, otherwise or answers(200, b"app"))


async def test_nothing_reaches_a_backend_before_its_first_pass(autojump_clock: MockClock) -> None:
    slow_to_start = app(in_turn(answers(503), answers(503), answers(200)))
    async with scene({"a": app(answers(200)), "b": slow_to_start}, pool=NO_JITTER) as play:
        for _ in range(20):
            assert (await fetch(play.network)).status == 200
            await trio.sleep(0.05)
        assert {request.target for request in play.backends["b"].requests} == {"/health"}


async def test_a_single_pass_admits_a_new_backend_and_two_bring_one_back(
    autojump_clock: MockClock,
) -> None:
    flapping = app(in_turn(*[answers(s) for s in (200, 503, 503, 503, 200, 200)], answers(200)))
    async with scene({"a": app(answers(200)), "b": flapping}, pool=NO_JITTER) as play:
        await trio.sleep(30)
        sentences = " / ".join(s for s in play.stage.sentences() if ADDRESSES["b"] in s)
        assert "first probe passed" in sentences
        assert "3 of 3 probes failed: status 503, expected 200-299" in sentences
        assert "2 of 2 probes passed" in sentences


async def test_alternating_verdicts_never_take_a_backend_out(autojump_clock: MockClock) -> None:
    """Counters that are not reset by the opposite verdict eject such a backend after a while."""
    verdicts = [answers(200), *[answers(503), answers(200)] * 20]
    async with scene(
        {"a": app(answers(200)), "b": app(in_turn(*verdicts))}, pool=NO_JITTER
    ) as play:
        await trio.sleep(60)
        assert not [s for s in play.stage.sentences() if "probes failed" in s]


async def test_a_black_hole_among_the_backends_delays_no_other_probe(
    autojump_clock: MockClock,
) -> None:
    scripts = {name: app(answers(200)) for name in "abcdefgh"} | {"a": app(silent())}
    async with scene(scripts, pool=NO_JITTER) as play:
        await trio.sleep(21)
        probes = [request.at for request in play.backends["b"].requests]
        pauses = [later - earlier for earlier, later in pairwise(probes)]
        assert pauses == pytest.approx([2.0] * len(pauses))
        assert play.backend_status("a")["reason"] == "first probe failed: no answer in 1 s"


async def test_a_backend_that_fails_requests_is_ejected_tried_and_returned(
    autojump_clock: MockClock,
) -> None:
    failing = in_turn(*[answers(503)] * 3, answers(200))
    passive = 'passive = { consecutive_failures = 3, base_ejection = "10s" }'
    async with scene({"a": failing, "b": answers(200)}, pool=passive) as play:
        for _ in range(8):
            await fetch(play.network)
        status = play.backend_status("a")
        assert status["ejected"]
        assert not status["available"]
        before = len(play.backends["a"].requests)
        for _ in range(8):
            assert (await fetch(play.network)).status == 200
        assert len(play.backends["a"].requests) == before
        await trio.sleep(10.1)
        assert play.backend_status("a")["on_trial"]
        for _ in range(4):
            assert (await fetch(play.network)).status == 200
        assert not play.backend_status("a")["on_trial"]
        assert len(play.backends["a"].requests) > before


async def test_the_last_backend_is_never_ejected(autojump_clock: MockClock) -> None:
    passive = "passive = { consecutive_failures = 1, max_ejected_ratio = 1.0 }"
    async with scene({"a": answers(503), "b": answers(503)}, pool=passive) as play:
        for _ in range(10):
            await fetch(play.network)
        ejected = [play.backend_status(name)["ejected"] for name in "ab"]
        assert ejected.count(True) == 1


async def test_client_aborts_eject_nobody(autojump_clock: MockClock) -> None:
    """Aborting requests in a row must not be a way to take backends out."""
    async with scene({"a": silent(), "b": silent()}, pool=HEALTHY_AT_ONCE) as play:
        for _ in range(12):
            client = await play.client()
            await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await trio.sleep(0.1)
            cut(client.sock)
            client.close()
        await trio.sleep(3)
        assert play.at_rest()
        assert [play.backend_status(name)["failures"] for name in "ab"] == [0, 0]


HEALTHY_AT_ONCE = "passive = { consecutive_failures = 1 }"


async def test_with_nobody_healthy_all_are_tried_and_every_sign_says_so(
    autojump_clock: MockClock,
) -> None:
    async with scene({"a": app(answers(500)), "b": app(answers(500))}, pool=NO_JITTER) as play:
        await trio.sleep(5)
        answer = await fetch(play.network)
        assert answer.status == 200
        assert answer.header("x-balancer-panic") == "1"
        assert any("panic" in sentence for sentence in play.stage.sentences())
        play.backends["a"].script = app(answers(200))
        await trio.sleep(10)
        assert (await fetch(play.network)).header("x-balancer-panic") is None


async def test_an_unreachable_network_is_told_from_a_refusing_backend(
    autojump_clock: MockClock,
) -> None:
    async with scene({"a": app(answers(200)), "b": app(answers(200))}, pool=NO_JITTER) as play:
        play.network.link("127.0.0.1", "10.0.0.2").fault = Fault.PARTITIONED
        await trio.sleep(20)
        assert "no answer in 1 s" in str(play.backend_status("b")["reason"])
        play.network.link("127.0.0.1", "10.0.0.2").fault = Fault.NONE
        await trio.sleep(20)
        assert play.backend_status("b")["available"]


async def test_the_network_may_cut_everything_and_no_client_sees_it(
    autojump_clock: MockClock,
) -> None:
    async with scene({"a": answers(200, b"1"), "b": answers(200, b"1")}) as play:
        client = await play.client()
        for _ in range(10):
            assert (await client.get()).status == 200
            play.network.link("127.0.0.1", "10.0.0.1").reset_connections()
            play.network.link("127.0.0.1", "10.0.0.2").reset_connections()
            await trio.sleep(0.01)


# ---- the headline: a killed backend is not noticed by any client


async def _client(play: Scene, until: float, statuses: list[int]) -> None:
    client = await play.client()
    while trio.current_time() < until:
        answer = await client.get("/work")
        statuses.append(answer.status if answer.complete else -1)
        if answer.header("connection") == "close":
            client.close()
            client = await EdgeClient.connect(play.network)
    client.close()


async def _killed_and_restarted(seed: int) -> tuple[list[int], list[str], list[str]]:
    working = app(answers(200), answers(200, b"w" * 3000, after_s=0.4))
    statuses: list[int] = []
    async with scene(
        {"a": working, "b": working, "c": working}, pool=HEALTH, seed=seed, latency_s=0.001
    ) as play:
        async with trio.open_nursery() as clients:
            for _ in range(50):
                clients.start_soon(_client, play, 14.0, statuses)
            clients.start_soon(play.backends["b"].kill_at, 3.0, 7.0)
        await play.settled()
        assert play.at_rest()
        trace = [
            f"{record.request_id} {record.began:.6f} {record.ended:.6f} {record.attempts}"
            for record in play.stage.access
        ]
        return statuses, play.stage.sentences(), trace


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_killed_backend_fails_no_get_of_fifty_clients(seed: int) -> None:
    statuses, sentences, _ = run_virtual(_killed_and_restarted, seed, seed=seed)
    assert len(statuses) > 1_500
    assert set(statuses) == {200}
    assert any("10.0.0.2:80" in s and "takes no new requests" in s for s in sentences)
    assert any("10.0.0.2:80" in s and "probes passed" in s for s in sentences)


def test_one_seed_gives_one_run_byte_for_byte() -> None:
    one, two = (run_virtual(_killed_and_restarted, 7, seed=7) for _ in range(2))
    assert one == two
    other = run_virtual(_killed_and_restarted, 8, seed=8)
    assert other != one


async def test_a_reset_answer_under_load_is_hidden_too(autojump_clock: MockClock) -> None:
    statuses: list[int] = []
    scripts = {
        "a": resets_after(0),
        "b": answers(200, b"b", after_s=0.1),
        "c": answers(200, b"c", after_s=0.1),
    }
    async with scene(scripts) as play, trio.open_nursery() as clients:
        for _ in range(20):
            clients.start_soon(_client, play, 3.0, statuses)
    assert set(statuses) == {200}


async def test_a_pool_of_posts_gets_its_backend_back(autojump_clock: MockClock) -> None:
    """Kept away from trials for good, unrepeatable requests would never end one."""
    failing = in_turn(answers(503), answers(200))
    passive = 'passive = { consecutive_failures = 1, base_ejection = "1s" }'
    async with scene({"a": failing, "b": answers(200)}, pool=passive) as play:
        client = await play.client()
        for _ in range(3):
            await client.get()
        await trio.sleep(1.5)
        for _ in range(140):
            await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
            assert (await client.answer()).status == 200
        assert not play.backend_status("a")["on_trial"]
        assert len(play.backends["a"].requests) > 3
