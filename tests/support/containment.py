"""One connection in trouble, beside others that must not notice: a scenario, played with a fault in it.

`play` gives all that was not as it must be after a crash or a cancellation, whatever the scenario was
about: `containment_verdict` says what that is.
"""

import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog
import trio
from trio.testing import MockClock

from balancer.proxy import plain_exchange
from balancer.rehearsal.memory_network import MemoryNetwork
from balancer.rehearsal.virtual_time import _seeded
from tests.support.certificates import files_for
from tests.support.containment_verdict import Traces, judge, left_over
from tests.support.edge_client import EdgeClient, NoAnswer
from tests.support.injection import VICTIM_PORT, Probe, Run
from tests.support.scene import Scene, scene
from tests.support.scripted_http import Line, Request
from tests.support.transcript import Said
from tests.support.virtual_backend import Script, VirtualBackend, response
from tests.support.virtual_pipes import lay_pipes

OTHERS = "10.0.9.9:80"
# Nothing waits for longer than this when a scenario is over.
OVER_S = 8.0
ACT_S = 60.0
TOP = """
client.header_timeout = "2s"
client.idle_timeout = "4s"
client.body_timeout = "2s"
client.min_upload_rate = "1B"
"""
POOL = f"""
timeouts = {{ connect = "500ms", response = "2s", idle = "2s" }}
connections = {{ idle_timeout = "3s" }}
tunnels = {{ protocols = ["websocket", "echo"], idle_timeout = "3s", drain_timeout = "1s" }}
[pools.others]
backends = ["{OTHERS}"]
timeouts = {{ connect = "500ms", response = "2s", idle = "2s" }}
connections = {{ idle_timeout = "3s" }}
[[routes]]
host = "others.test"
pool = "others"
[[routes]]
pool = "web"
"""
READ_OUT_S = 3.0


class Victim(EdgeClient):
    """The client whose connection has the fault; keeps all that it was sent."""

    def __init__(self, network: MemoryNetwork, sock: Any) -> None:
        super().__init__(network, sock)
        self.got = b""
        self.end = ""  # how the connection ended, seen from here

    async def send(self, data: bytes) -> None:
        try:
            await super().send(data)
        except ConnectionResetError:  # told once, to whoever calls first
            self.end = self.end or "reset"
            raise

    async def receive(self) -> bytes:
        try:
            data = await super().receive()
        except OSError:
            self.end = self.end or "reset"
            raise
        self.got += data
        if not data:
            self.end = self.end or "in order"
        return data

    def close(self) -> None:
        self.end = self.end or "left"
        super().close()


@dataclass
class Talk:
    """What a scenario has in its hands."""

    play: Scene
    client: Victim

    async def asks(self, text: str, body: bytes = b"") -> None:
        """Send a head, its lines separated by line ends, and what follows it."""
        lines = [line.strip() for line in text.strip().splitlines()]
        await self.client.send("\r\n".join([*lines, "", ""]).encode() + body)


Act = Callable[[Talk], Awaitable[None]]


@dataclass(frozen=True)
class Scenario:
    """A scenario; `general`: with every request called unusual."""

    name: str
    act: Act
    scripts: Mapping[str, Callable[[], Script]]
    methods: tuple[str, ...] = ()
    general: bool = False
    pipes: bool = False
    pool: str = ""
    top: str = ""
    port: int = 8080
    route: str = ""
    tls: Callable[[], ssl.SSLContext] | None = None
    prepare: Callable[[Scene], Awaitable[None]] | None = None
    patch: Callable[[pytest.MonkeyPatch], None] | None = None


@dataclass
class Outcome:
    """What came of a run."""

    run: Run
    said: list[Said] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


def play(scenario: Scenario, probe: Probe, run: Run, wanted: list[Said] | None = None) -> Outcome:
    """Play a scenario once; `wanted` is what the client is told where nothing goes wrong."""
    with _seeded(1):
        return trio.run(_play, scenario, probe, run, wanted, clock=MockClock(autojump_threshold=0))


async def _play(scenario: Scenario, probe: Probe, run: Run, wanted: list[Said] | None) -> Outcome:
    outcome = Outcome(run)
    scripts = {name: make() for name, make in scenario.scripts.items()}
    top, pool = f"{TOP}\n{scenario.top}", f"{scenario.pool}\n{POOL}{scenario.route}"
    with pytest.MonkeyPatch.context() as patch, structlog.testing.capture_logs() as lines:
        if scenario.general:
            patch.setattr(plain_exchange, "plain_request", lambda *_: None)
        if scenario.patch is not None:
            scenario.patch(patch)
        files = files_for(main="a.test")
        tls = None if scenario.tls is None else scenario.tls()
        async with scene(scripts, top=top, pool=pool, files=files, tls=tls) as stage:
            await stage.nursery.start(VirtualBackend(stage.network, OTHERS, _others()).run)
            if scenario.prepare is not None:
                await scenario.prepare(stage)
            pipes = lay_pipes(stage.network, patch) if scenario.pipes else None
            await stage.settled()
            before = Traces.of(stage, pipes)
            with probe.during(run):
                client = await _beside_others(stage, scenario, outcome)
                await trio.sleep(OVER_S)
                await stage.settled()
            outcome.complaints += left_over(before, Traces.of(stage, pipes))
            outcome.said, complaints = judge(
                run,
                client.got,
                client.end,
                lines,
                stage,
                methods=scenario.methods,
                crashes_itself=scenario.patch is not None,
                wanted=wanted,
            )
            outcome.complaints += complaints
            await _next_one(stage, outcome)
    return outcome


# ---- the others ------------------------------------------------------------------------------------


def _others() -> Script:
    """Answers with what it was sent; `/slow`: a byte each half second, twenty in all."""

    async def script(line: Line, request: Request) -> bool:
        if request.target != "/slow":
            await line.send(response(200, request.target.encode() + b":" + _unchunked(request)))
            return True
        await line.send(response(200, b"s" * 20)[:-20])
        for _ in range(20):
            await trio.sleep(0.25)
            await line.send(b"s")
        return True

    return script


def _unchunked(request: Request) -> bytes:
    if request.header("transfer-encoding") is None:
        return request.body
    return b"".join(request.body.split(b"\r\n")[1::2])


async def _beside_others(stage: Scene, scenario: Scenario, outcome: Outcome) -> Victim:
    """The scenario, and three others that are served meanwhile, each in a way of its own."""
    ended = trio.Event()
    async with trio.open_nursery() as nursery:
        for other in (_asks_again, _uploads, _reads_slowly):
            nursery.start_soon(_unharmed, other, stage, ended, outcome)
        await stage.settled()
        client = await _victim_of(stage.network, scenario.port)
        try:
            with trio.move_on_after(ACT_S):
                await scenario.act(Talk(stage, client))
        except (NoAnswer, OSError, AssertionError, ValueError):
            if outcome.run.target is None:
                raise
        if client.end != "left":
            with trio.move_on_after(READ_OUT_S):
                await _read_out(client)
            client.sock.close()
        ended.set()
    return client


async def _read_out(client: Victim) -> None:
    try:
        while await client.receive():
            pass
    except OSError:
        pass


async def _victim_of(network: MemoryNetwork, port: int) -> Victim:
    sock = network.socket(socket.AF_INET)
    sock.bind(("127.0.0.1", VICTIM_PORT))
    sock.connect_ex(("127.0.0.1", port))
    await network.wait_writable(sock)
    assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return Victim(network, sock)


Other = Callable[[EdgeClient, trio.Event], Awaitable[None]]


async def _unharmed(other: Other, stage: Scene, ended: trio.Event, outcome: Outcome) -> None:
    client = await stage.client()
    try:
        await other(client, ended)
    except (NoAnswer, OSError, AssertionError) as harm:
        outcome.complaints.append(f"another connection was harmed: {other.__name__}: {harm!r}")
    finally:
        client.close()


async def _asks_again(client: EdgeClient, ended: trio.Event) -> None:
    last = False
    while not last:
        last = ended.is_set()
        answer = await client.get("/again", host="others.test")
        assert (answer.status, answer.body, answer.complete) == (200, b"/again:", True)
        await trio.sleep(0.3)


async def _uploads(client: EdgeClient, ended: trio.Event) -> None:
    head = "POST /up HTTP/1.1\r\nHost: others.test\r\nTransfer-Encoding: chunked\r\n\r\n"
    await client.send(head.encode())
    sent = b""
    while not ended.is_set():
        await client.send(b"1\r\nu\r\n")
        sent += b"u"
        await trio.sleep(0.5)
    await client.send(b"0\r\n\r\n")
    answer = await client.answer("POST")
    assert (answer.status, answer.body, answer.complete) == (200, b"/up:" + sent, True)


async def _reads_slowly(client: EdgeClient, ended: trio.Event) -> None:
    first = True
    while first or not ended.is_set():
        first = False
        answer = await client.get("/slow", host="others.test")
        assert (answer.status, answer.body, answer.complete) == (200, b"s" * 20, True)


async def _next_one(stage: Scene, outcome: Outcome) -> None:
    """Whoever comes next is served, and served again."""
    client = await stage.client()
    try:
        with trio.fail_after(5):
            for _ in range(2):
                answer = await client.get("/next", host="others.test")
                assert (answer.status, answer.body) == (200, b"/next:")
    except (NoAnswer, OSError, AssertionError, trio.TooSlowError) as harm:
        outcome.complaints.append(f"the next connection is not served: {harm!r}")
    finally:
        client.close()
