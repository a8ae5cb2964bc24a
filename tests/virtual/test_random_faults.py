"""Random faults on all sides, by seed, and what must hold all the same.

Backends that break in every way, are killed and restarted; clients that reset, half-close, dawdle;
short reads and latency. Afterwards: nothing in flight, no connection or socket left; every client
got the whole of one attempt's answer or saw it break; no POST was delivered twice; and what could be
repeated failed only after it had been repeated.
"""

import random
import socket
from collections import Counter
from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import MockClock

from balancer.wire.streams import cut
from tests.support.edge_client import Answer, EdgeClient, NoAnswer
from tests.support.scene import Scene, scene
from tests.support.scripted_http import Line, Request, response
from tests.support.virtual_backend import Script

POOL = """timeouts = { connect = "1s", response = "3s", idle = "5s" }
connections = { idle_max = 4 }
passive = { consecutive_failures = 3, base_ejection = "2s" }
"""
CLIENTS = 'client = { body_timeout = "7s", header_timeout = "5s", idle_timeout = "9s" }'
SIZES = (1, 10, 3000)
WELL = ("ok", "ok", "ok", "ok", "chunked", "close", "until close", "late", "interim")
CUT_SHORT = {
    "no answer": b"",
    "cut head": b"HTTP/1.1 200 OK\r\nContent-",
    "no HTTP": b"nonsense\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "bad chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcZZ",
}
ILL = ("reset", "silent", "cut body", "reset body", "more than asked", *CUT_SHORT)


@dataclass
class Notes:
    """What both sides saw."""

    delivered: list[tuple[str, str]] = field(default_factory=list)  # method, token
    answers: list[tuple[str, str, int, Answer | None]] = field(default_factory=list)


def moody(name: str, rng: random.Random, notes: Notes) -> Script:
    """A backend that does something else with every request; its bodies name it and the request."""

    async def script(line: Line, request: Request) -> bool:
        token = request.header("x-token") or ""
        notes.delivered.append((request.method, token))
        body = f"{name}:{token};".encode() * rng.choice(SIZES)
        kind = rng.choice((*WELL, *ILL))
        if kind in CUT_SHORT:
            await line.send(CUT_SHORT[kind])
            return False
        if kind in WELL:
            return await _answer_well(line, request, kind, body, rng)
        return await _answer_ill(line, request, kind, body, rng)

    return script


async def _answer_well(
    line: Line, request: Request, kind: str, body: bytes, rng: random.Random
) -> bool:
    if kind == "until close":
        await line.send(b"HTTP/1.1 200 OK\r\n\r\n" + (b"" if request.method == "HEAD" else body))
        return False
    if kind == "late":
        await trio.sleep(rng.random() * 2)
    if kind == "interim":
        await line.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        await trio.sleep(rng.random())
    fields = (("Connection", "close"),) if kind == "close" else ()
    await line.send(response(200, body, fields, chunked=kind == "chunked", request=request))
    return kind != "close"


async def _answer_ill(
    line: Line, request: Request, kind: str, body: bytes, rng: random.Random
) -> bool:
    if kind == "reset":
        line.reset()
    elif kind == "silent":
        await trio.sleep(30)
    elif kind == "more than asked":
        stranger = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL"
        await line.send(response(200, body, request=request) + stranger)
        return True
    elif request.method != "HEAD":
        whole = response(200, body)
        await line.send(whole[: len(whole) - rng.randint(1, len(body))])
        if kind == "reset body":
            await trio.sleep(rng.random())
            line.reset()
    return False


async def visitor(play: Scene, rng: random.Random, number: int, notes: Notes) -> None:
    """A client of several connections and requests, some of them rude."""
    for connection in range(rng.randint(1, 4)):
        client = await play.client()
        try:
            for turn in range(rng.randint(1, 5)):
                if not await _visit(client, rng, f"{number}-{connection}-{turn}", notes):
                    break
        finally:
            client.close()


async def _visit(client: EdgeClient, rng: random.Random, token: str, notes: Notes) -> bool:
    """One request; whether the connection can take another."""
    method, size, raw = _request(rng, token)
    mood = rng.random()
    if mood < 0.1:  # leaves in the middle, or while it waits
        await client.send(raw[: rng.randint(1, len(raw))] if mood < 0.06 else raw)
        await trio.sleep(rng.random())
        cut(client.sock)
        return False
    half_closes = 0.2 < mood < 0.25
    answer = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_push, client, raw, rng if mood < 0.2 else None, half_closes)
        with trio.fail_after(400):
            if mood > 0.9:
                await trio.sleep(rng.random() * 3)
            try:
                answer = await client.answer(method)
                while answer.status < 200:
                    answer = await client.answer(method)
            except NoAnswer:
                answer = None
        nursery.cancel_scope.cancel()
    notes.answers.append((method, token, size, answer))
    return (
        answer is not None
        and answer.complete
        and not half_closes
        and answer.header("connection") != "close"
    )


def _request(rng: random.Random, token: str) -> tuple[str, int, bytes]:
    method = rng.choice(["GET", "GET", "HEAD", "POST", "PUT"])
    size = rng.choice([0, 5, 3000, 100_000]) if method in ("POST", "PUT") else 0
    minor = rng.choice([1, 1, 1, 0])
    head = f"{method} /{token} HTTP/1.{minor}\r\nHost: a\r\nX-Token: {token}\r\n"
    body = b"u" * size
    if not minor:
        head += "Connection: keep-alive\r\n"
    if size and minor and rng.random() < 0.5:
        head += "Transfer-Encoding: chunked\r\n"
        pieces = [body[i : i + 700] for i in range(0, size, 700)]
        body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    elif method in ("POST", "PUT"):
        head += f"Content-Length: {size}\r\n"
    if size and rng.random() < 0.3:
        head += "Expect: 100-continue\r\n"
    return method, size, head.encode() + b"\r\n" + body


async def _push(
    client: EdgeClient, raw: bytes, slowly: random.Random | None, half_closes: bool
) -> None:
    try:
        for start in range(0, len(raw), 20_000):
            if slowly is not None:
                await trio.sleep(slowly.random())
            await client.send(raw[start : start + 20_000])
        if half_closes:
            client.sock.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # the edge had enough; the answer says why


async def _chaos(play: Scene, rng: random.Random) -> None:
    while True:
        await trio.sleep(rng.random() * 3)
        backend = play.backends[rng.choice("abc")]
        backend.kill()
        await trio.sleep(rng.random())
        backend.restart()


@pytest.mark.parametrize(
    "seed", [*range(12), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(12, 200))]
)
@pytest.mark.usefixtures("either_way")
async def test_random_faults_break_no_promise(autojump_clock: MockClock, seed: int) -> None:
    rng, notes = random.Random(seed), Notes()
    scripts = {name: moody(name, random.Random(f"{seed}{name}"), notes) for name in "abc"}
    latency_s = rng.choice([0, 0.001, 0.03])
    async with scene(scripts, pool=POOL, top=CLIENTS, seed=seed, latency_s=latency_s) as play:
        for backend in play.backends.values():
            backend.idle_s = rng.choice([None, 0.5, 2])
        play.network.set_short_reads(seed % 3 == 0)
        before = len(play.network.own_host.open_sockets())
        async with trio.open_nursery() as faults:
            if seed % 2:
                faults.start_soon(_chaos, play, rng)
            async with trio.open_nursery() as clients:
                for number in range(25):
                    visits = random.Random(f"{seed}-{number}")
                    clients.start_soon(visitor, play, visits, number, notes)
            faults.cancel_scope.cancel()
        await trio.sleep(80)
        _check_rest(play, before)
        _check_answers(play, notes)


def _check_rest(play: Scene, before: int) -> None:
    service = play.stage.worker.service
    assert play.at_rest()
    assert service.connections == 0
    assert not service.resting
    assert len(play.network.own_host.open_sockets()) - service.idle.count() == before


def _check_answers(play: Scene, notes: Notes) -> None:
    posts = Counter(token for method, token in notes.delivered if method == "POST")
    assert {token for token, times in posts.items() if times > 1} == set()
    records = {record.target: record for record in play.stage.access if record.target}
    assert len(notes.answers) > 50
    for method, token, size, answer in notes.answers:
        record = records.get("/" + token)
        where = (method, token, record)
        assert answer is not None, where
        assert b"EVIL" not in answer.body, where
        if answer.status == 200 and method != "HEAD" and answer.complete:
            unit = answer.body[:2] + token.encode() + b";"
            assert answer.body in [unit * times for times in SIZES], where
        if answer.status >= 500 and method != "POST" and size <= 3000:
            assert record is not None, where
            assert len(record.attempts) > 2 or "every backend" in record.fault, where
