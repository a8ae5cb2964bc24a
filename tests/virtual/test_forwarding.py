"""Who is believed about a client, what nobody may send, and requests that come back to us."""

import pytest
from trio.testing import MockClock

from tests.support.edge_client import EdgeClient, fetch
from tests.support.scene import Scene, scene
from tests.support.virtual_backend import answers

pytestmark = pytest.mark.usefixtures("either_way")

CLAIMS = (
    "X-Forwarded-For: 6.6.6.6",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: evil.test",
    "X-Forwarded-Port: 443",
    "X-Forwarded-Prefix: /evil",
    "Forwarded: for=6.6.6.6",
    "X-Real-IP: 6.6.6.6",
    "True-Client-IP: 6.6.6.6",
    "X-Request-ID: theirs",
)


def told(play: Scene, *names: str) -> list[str | None]:
    request = play.backends["a"].requests[-1]
    return [request.header(name) for name in names]


async def test_a_stranger_says_nothing_of_himself_the_machine_itself_included(
    autojump_clock: MockClock,
) -> None:
    async with scene({"a": answers(200)}) as play:
        await fetch(play.network, "/", *CLAIMS, "Cookie: c=d")
        request = play.backends["a"].requests[0].raw
        assert b"6.6.6.6" not in request
        assert b"evil" not in request
        assert b"443" not in request
        assert b"theirs" not in request
        assert told(play, "x-forwarded-for", "x-real-ip", "x-forwarded-proto", "cookie") == [
            "127.0.0.1", "127.0.0.1", "http", "c=d",
        ]  # fmt: skip
        assert play.stage.access[0].client == "127.0.0.1"


async def test_a_trusted_proxy_speaks_for_its_client(autojump_clock: MockClock) -> None:
    """RFC 7239 4 for Forwarded; the client is the last who is no trusted proxy, in logs too."""
    top = 'trusted_proxies = ["127.0.0.1/32", "192.0.2.0/24"]'
    async with scene({"a": answers(200)}, top=top) as play:
        answer = await fetch(
            play.network,
            "/",
            "X-Forwarded-For: 6.6.6.6, 203.0.113.7, 192.0.2.1",
            *CLAIMS[1:],
        )
        assert told(play, "x-forwarded-for", "x-real-ip") == [
            "6.6.6.6, 203.0.113.7, 192.0.2.1, 127.0.0.1",
            "203.0.113.7",
        ]
        assert told(play, "x-forwarded-proto", "x-forwarded-host") == ["https", "evil.test"]
        assert told(play, "x-forwarded-port", "x-forwarded-prefix") == ["443", "/evil"]
        assert told(play, "true-client-ip") == ["6.6.6.6"]
        assert told(play, "forwarded") == ["for=6.6.6.6, for=127.0.0.1;proto=http"]
        assert answer.header("x-request-id") == "theirs"
        assert play.stage.access[0].client == "203.0.113.7"


@pytest.mark.parametrize("top", ["", 'trusted_proxies = ["127.0.0.1/32"]'])
async def test_what_backends_would_obey_is_dropped_whoever_sends_it(
    autojump_clock: MockClock, top: str
) -> None:
    names = ("Proxy", "X-Original-URL", "X-Rewrite-URL", "X_Forwarded_For", "api_key")
    async with scene({"a": answers(200)}, top=top) as play:
        await fetch(play.network, "/", *(f"{name}: x" for name in names))
        assert told(play, *names) == [None] * len(names)


async def test_what_the_operator_allows_passes(autojump_clock: MockClock) -> None:
    top = 'client = { allow_fields = ["API_Key", "X-Original-URL", "X-Forwarded-Port"] }'
    async with scene({"a": answers(200)}, top=top) as play:
        sent = ("api_key: k", "X-Original-URL: /b", "X-Forwarded-Port: 1", "other_key: o")
        await fetch(play.network, "/", *sent, "X-Forwarded-Host: evil.test", "Proxy: p")
        assert told(play, "api_key", "x-original-url", "x-forwarded-port") == ["k", "/b", "1"]
        assert told(play, "other_key", "proxy", "x-forwarded-host") == [None, None, "a.test"]
        assert isinstance(play.stage.config, str)
        play.stage.config = play.stage.config.replace('"API_Key", ', "")
        await play.stage.instance.desk.reload()
        await fetch(play.network, "/", *sent)
        assert told(play, "api_key", "x-original-url") == [None, "/b"]


# ---- loops ---------------------------------------------------------------------------------------

LOOPING = """
[pools.self]
backends = ["127.0.0.1:8080"]
[[routes]]
path = "/loop"
pool = "self"
[[routes]]
pool = "web"
"""


async def test_a_request_that_comes_back_is_a_loop(autojump_clock: MockClock) -> None:
    """RFC 9110 7.6.3, RFC 5842 7.2, RFC 9209 2.3."""
    async with scene({"a": answers(200)}, pool=LOOPING) as play:
        answer = await fetch(play.network, "/loop")
        assert answer.status == 508
        assert 'balancer; error=proxy_loop_detected; details="' in str(
            answer.header("proxy-status")
        )
        assert len(play.stage.access) == 2
        assert (await fetch(play.network, "/")).status == 200
        await play.settled()
        assert play.at_rest()


async def test_a_loop_is_not_held_against_the_backend_that_shows_it(
    autojump_clock: MockClock,
) -> None:
    async with scene({"a": answers(200)}, pool=LOOPING) as play:
        assert [(await fetch(play.network, "/loop")).status for _ in range(20)] == [508] * 20
        pools = play.stage.instance.desk.status("self")["pools"]
        assert isinstance(pools, dict)
        assert pools["self"]["backends"][0]["failures"] == 0


async def test_another_balancer_in_front_is_no_loop(autojump_clock: MockClock) -> None:
    """Two that are active side by side may pass requests on to each other."""
    async with scene({"a": answers(200)}) as play:
        via = "1.1 balancer-00000000"
        assert (await fetch(play.network, "/", f"Via: {via}")).status == 200
        request = play.backends["a"].requests[0]
        fields = [line for line in request.raw.split(b"\r\n") if line.lower().startswith(b"via:")]
        assert fields[0] == b"Via: 1.1 balancer-00000000"
        assert fields[1].startswith(b"Via: 1.1 balancer-")
        assert fields[1] != fields[0]


async def test_our_name_is_ours_alone_and_no_clients_business(autojump_clock: MockClock) -> None:
    async with scene({"a": answers(200)}) as play:
        answer = await fetch(play.network)
        mark = play.backends["a"].requests[0].header("via")
        assert mark is not None
        assert mark.removeprefix("1.1 ").encode() == play.stage.worker.service.fields.pseudonym
        assert answer.header("via") == "1.1 balancer"


async def test_every_worker_signs_by_one_name(autojump_clock: MockClock) -> None:
    """A request may come back to another worker of the same instance."""
    async with scene({"a": answers(200)}, pool=LOOPING, top="workers = 2") as play:
        for _ in range(10):
            client = await EdgeClient.connect(play.network)
            assert (await client.get("/loop")).status == 508
            client.close()
        assert len(play.stage.access) == 20
