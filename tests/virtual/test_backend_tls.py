"""TLS with backends: whom a pool believes, as whom it comes, and what a refusal costs."""

import ssl
from typing import Any

import pytest
import trio
import trustme
from trio.testing import MockClock

from balancer.core.ledger import Refused
from balancer.core.outcome import Failure
from balancer.rehearsal.memory_files import MemoryFiles
from tests.support.certificates import (
    authority,
    certificate,
    files_for,
    pem_of,
    server_context,
)
from tests.support.scene import Scene, scene
from tests.support.virtual_backend import Script, answers, answers_until_end, resets_after

pytestmark = pytest.mark.usefixtures("either_way")

IP, NAME = "10.0.0.1", "backend.test"
TLS = '[pools.web.tls]\nca = "/ca.pem"\n'
HEALTH = '[pools.web.health]\ninterval = "1s"\n'
OK = answers(200, b"hello")


def play_scene(
    *names: str, script: Script = OK, pool: str = TLS, files: MemoryFiles | None = None, **more: Any
) -> Any:
    """A scene with one backend, whose certificate is for these names."""
    tls = more.pop("tls", None) or server_context(*(names or (IP,)))
    return scene({"a": script}, tls=tls, pool=pool, files=files or files_for(us=NAME), **more)


async def refusal(play: Scene) -> str:
    """Why a request to the only backend has failed, by the log; the client is told no name of ours."""
    answer = await (await play.client()).get()
    assert answer.status == 502
    assert b"502 Bad Gateway: TLS failed after 2 attempts; " in answer.body
    assert "tls_protocol_error" in (answer.header("proxy-status") or "")
    assert b"mismatch" not in answer.head + answer.body
    await play.settled()
    record = play.stage.access[-1]
    assert record.fault.startswith(f"{record.attempts[-1].outcome}; not repeated: ")
    return record.attempts[-1].outcome


# ---- requests


async def test_requests_and_answers_pass_as_without_tls(autojump_clock: MockClock) -> None:
    async with play_scene() as play:
        client = await play.client()
        for _ in range(3):
            assert (await client.get()).body == b"hello"
        await client.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300000
        )
        answer = await client.answer("POST")
        assert answer.status == 200
        assert play.backends["a"].connections == 1
        assert play.backends["a"].requests[-1].body == b"x" * 300000
        await play.settled()
        assert play.at_rest()


@pytest.mark.parametrize("size", [10, 100_000, 2_000_000])
async def test_bodies_of_any_size_come_whole(autojump_clock: MockClock, size: int) -> None:
    body = bytes(range(256)) * (size // 256)
    async with play_scene(script=answers(200, body)) as play:
        client = await play.client()
        assert (await client.get()).body == body
        assert (await client.get()).body == body


async def test_a_body_that_ends_with_the_connection_is_whole_only_with_its_end(
    autojump_clock: MockClock,
) -> None:
    async with play_scene(script=answers_until_end(200, b"x" * 5000)) as play:
        client = await play.client()
        assert (await client.get()).body == b"x" * 5000
    async with play_scene(script=resets_after(300, b"x" * 5000)) as play:
        client = await play.client()
        assert not (await client.get()).complete


# ---- whom it believes


async def test_a_backend_must_prove_the_host_of_its_address(autojump_clock: MockClock) -> None:
    async with play_scene("10.0.0.9") as play:
        assert "IP address mismatch" in await refusal(play)
        await play.settled()
        assert play.at_rest()
        assert play.backends["a"].requests == []


async def test_a_backend_must_prove_the_name_that_is_set(autojump_clock: MockClock) -> None:
    pool = TLS + f'server_name = "{NAME}"\n'
    async with play_scene(NAME, pool=pool) as play:
        assert (await (await play.client()).get()).status == 200
    async with play_scene("other.test", pool=pool) as play:
        assert await refusal(play) == (
            f"TLS failed: certificate: Hostname mismatch, certificate is not valid for '{NAME}'"
        )


async def test_a_stranger_is_not_believed(autojump_clock: MockClock) -> None:
    """Without `ca` the system's authorities count, and ours is none of them."""
    async with play_scene(pool="[pools.web.tls]\n") as play:
        assert "certificate" in await refusal(play)


async def test_who_asks_for_no_proof_gets_none(autojump_clock: MockClock) -> None:
    async with play_scene("other.test", pool="[pools.web.tls]\nverify = false\n") as play:
        assert (await (await play.client()).get()).status == 200


async def test_the_name_is_asked_for(autojump_clock: MockClock) -> None:
    asked: list[str | None] = []
    context = server_context(NAME)
    context.sni_callback = lambda _sock, name, _context: asked.append(name)
    pool = TLS + f'server_name = "{NAME}"\n'
    async with play_scene(tls=context, pool=pool) as play:
        await (await play.client()).get()
    assert asked == [NAME]


# ---- as whom it comes


def demanding(*, pool: str) -> Any:
    context = server_context(IP)
    context.verify_mode = ssl.CERT_REQUIRED
    authority().configure_trust(context)
    return play_scene(tls=context, pool=pool)


async def test_a_client_certificate_is_shown(autojump_clock: MockClock) -> None:
    shows = TLS + 'certificate = "/us.pem"\nkey = "/us.key"\n'
    async with demanding(pool=shows) as play:
        assert (await (await play.client()).get()).status == 200
    async with demanding(pool=TLS) as play:
        answer = await (await play.client()).get()
        assert answer.status == 502


# ---- failures


async def test_a_refused_handshake_is_repeated_elsewhere_and_held_against_the_backend(
    autojump_clock: MockClock,
) -> None:
    pool = TLS + "[pools.web.passive]\nconsecutive_failures = 1\n"
    async with scene(
        {"a": OK, "b": OK},
        tls=server_context("10.0.0.2"),
        pool=pool,
        files=files_for(us=NAME),
    ) as play:
        client = await play.client()
        for _ in range(4):
            await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
            answer = await client.answer("POST")
            assert answer.status == 200, "nothing had been said yet, so any method is repeated"
        assert play.backend_status("a")["ejected"]
        assert not play.backend_status("b")["ejected"]
        assert any(
            attempt.outcome.startswith(Failure.TLS_REFUSED)
            for record in play.stage.access
            for attempt in record.attempts
        )


async def test_a_backend_without_tls_is_refused(autojump_clock: MockClock) -> None:
    async with scene({"a": OK}, pool=TLS, files=files_for(us=NAME)) as play:
        play.backends["a"].idle_s = 0.1  # it waits for a request in vain, and hangs up
        client = await play.client()
        assert (await client.get()).status == 502
        await play.settled()
        assert play.at_rest()
        assert play.backends["a"].requests == []


async def test_a_silent_handshake_ends_with_the_time_to_connect(autojump_clock: MockClock) -> None:
    async with play_scene() as play:
        play.backends["a"].tls = None
        play.backends["a"].greeted = True  # it waits for something that never comes
        began = trio.current_time()
        client = await play.client()
        assert (await client.get()).status == 504
        assert trio.current_time() - began == pytest.approx(1, abs=0.1)
        await play.settled()
        assert play.at_rest()


# ---- probes


async def test_probes_speak_it_by_the_same_rules(autojump_clock: MockClock) -> None:
    async with play_scene(pool=TLS + HEALTH) as play:
        await trio.sleep(3)
        assert play.backend_status("a")["health"] == "healthy"
    async with play_scene("other.test", pool=TLS + HEALTH) as play:
        await trio.sleep(3)
        status = play.backend_status("a")
        assert status["health"] == "unhealthy"
        assert "certificate" in str(status["reason"])


async def test_probes_may_be_content_with_less(autojump_clock: MockClock) -> None:
    async with play_scene("other.test", pool=TLS + HEALTH + "verify = false\n") as play:
        await trio.sleep(3)
        assert play.backend_status("a")["health"] == "healthy"


# ---- files


async def test_a_file_that_changes_is_taken_up_by_requests_and_probes(
    autojump_clock: MockClock,
) -> None:
    files = files_for(us=NAME)
    right = files.contents["/ca.pem"]
    files.contents["/ca.pem"] = pem_of(certificate("x.test"))[0]
    other = ssl.create_default_context()
    del other

    files.contents["/ca.pem"] = trustme.CA().cert_pem.bytes()
    async with play_scene(pool=TLS + HEALTH, files=files) as play:
        await trio.sleep(5)
        assert play.backend_status("a")["health"] == "unhealthy"
        files.contents["/ca.pem"] = right
        await trio.sleep(20)
        assert play.backend_status("a")["health"] == "healthy"
        assert (await (await play.client()).get()).status == 200


async def test_a_reload_says_that_files_were_loaded_anew_only_if_they_were(
    autojump_clock: MockClock,
) -> None:
    files = files_for(us=NAME)
    async with play_scene("10.0.0.1", files=files) as play:
        play.stage.config = play.stage.config.replace(TLS, TLS + f'server_name = "{NAME}"\n')
        done = await play.stage.instance.desk.reload()
        assert done.message == "reloaded stage.toml: pool web: tls.server_name changed"
        files.contents["/ca.pem"] += files.contents["/ca.pem"]
        done = await play.stage.instance.desk.reload()
        assert done.message == "reloaded stage.toml: certificates loaded anew"


@pytest.mark.parametrize(
    ("pool", "says"),
    [
        ('[pools.web.tls]\nca = "/none.pem"\n', "pools.web.tls.ca: /none.pem: cannot be read"),
        ('[pools.web.tls]\nca = "/us.key"\n', "pools.web.tls.ca: /us.key: holds no certificate"),
        (
            TLS + 'certificate = "/us.pem"\nkey = "/other.key"\n',
            "pools.web.tls.key: /other.key: the key does not belong",
        ),
    ],
)
async def test_a_reload_to_files_of_no_use_changes_nothing(
    autojump_clock: MockClock, pool: str, says: str
) -> None:

    async with play_scene(files=files_for(us=NAME, other="other.test")) as play:
        play.stage.config = play.stage.config.replace(TLS, pool)
        with pytest.raises(Refused) as refused:
            await play.stage.instance.desk.reload()
        assert says in str(refused.value)
        assert (await (await play.client()).get()).status == 200
