"""Two certificates for the same names, of different kinds of keys: each client is shown what it can use."""

import datetime
import ssl
from functools import cache

import pytest
from trio.testing import MockClock
from trustme import KeyType

from balancer.rehearsal.memory_files import MemoryFiles
from balancer.rehearsal.stage import MORNING
from balancer.wire.tls_socket import Coded
from tests.support.certificates import authority, client_context, files_for, pem_of
from tests.support.edge_client import EdgeClient
from tests.support.scene import Scene, scene
from tests.support.virtual_backend import answers

FILES = ("other", "rsa", "ecdsa", "wild")
LISTENER = f"""
[[listeners]]
bind = "127.0.0.1:8443"
[listeners.tls]
certificates = [{", ".join(f'{{ certificate = "/{name}.pem", key = "/{name}.key" }}' for name in FILES)}]
"""


@cache
def files() -> MemoryFiles:
    """Two of the same names, told in two orders, between others."""
    made = files_for(other="c.test", wild="*.a.test")
    for name, kind, names in (
        ("rsa", KeyType.RSA, ("a.test", "b.test")),
        ("ecdsa", KeyType.ECDSA, ("b.test", "a.test")),
    ):
        leaf = authority().issue_cert(*names, key_type=kind)
        made.contents[f"/{name}.pem"], made.contents[f"/{name}.key"] = pem_of(leaf)
    return made


def old_client(kind: str) -> ssl.SSLContext:
    """One of TLS 1.2, that can verify signatures by one kind of key alone."""
    context = client_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(f"ECDHE-{kind}-AES128-GCM-SHA256")
    return context


async def shown(play: Scene, context: ssl.SSLContext, name: str = "a.test") -> str:
    """The file of what a client is shown who asks for that name, and is served under it."""
    client = await EdgeClient.connect(play.network, 8443)
    await client.speak_tls(context, name)
    assert (await client.get(host=name)).status == 200
    assert isinstance(client.sock, Coded)
    leaf = ssl.DER_cert_to_PEM_cert(client.sock.engine.getpeercert(True)).encode()
    client.close()
    contents = files().contents
    (found,) = (file for file in FILES if leaf.strip() in contents[f"/{file}.pem"])
    return found


async def test_each_client_is_shown_the_one_whose_key_it_can_verify(
    autojump_clock: MockClock,
) -> None:
    async with scene({"a": answers(200)}, top=LISTENER, files=files()) as play:
        for name in ("a.test", "B.TEST"):
            assert await shown(play, client_context(), name) == "ecdsa"
            assert await shown(play, old_client("RSA"), name) == "rsa"
            assert await shown(play, old_client("ECDSA"), name) == "ecdsa"
        assert await shown(play, client_context(), "c.test") == "other"
        assert await shown(play, client_context(), "x.a.test") == "wild"


@pytest.mark.parametrize("kind", ["RSA", "ECDSA"])
async def test_a_host_of_both_is_served_and_one_of_another_is_misdirected(
    autojump_clock: MockClock, kind: str
) -> None:
    async with scene({"a": answers(200)}, top=LISTENER, files=files()) as play:
        client = await EdgeClient.connect(play.network, 8443)
        await client.speak_tls(old_client(kind), "a.test")
        told = {
            host: (await client.get(host=host)).status for host in ("a.test", "b.test", "c.test")
        }
        assert told == {"a.test": 200, "b.test": 200, "c.test": 421}
        client.close()


async def test_the_first_two_are_for_whoever_asks_for_no_name_that_is_known(
    autojump_clock: MockClock,
) -> None:
    top = LISTENER.replace('{ certificate = "/other.pem", key = "/other.key" }, ', "")
    async with scene({"a": answers(200)}, top=top, files=files()) as play:
        for kind in ("RSA", "ECDSA"):
            context = old_client(kind)
            context.check_hostname = False
            client = await EdgeClient.connect(play.network, 8443)
            await client.speak_tls(context, "nobodys.test")
            assert (await client.get()).status == 200
            client.close()


async def test_both_are_in_the_status_with_the_kinds_of_their_keys(
    autojump_clock: MockClock,
) -> None:
    async with scene({"a": answers(200)}, top=LISTENER, files=files()) as play:
        rows = play.stage.instance.desk.status(None)["certificates"]
        assert isinstance(rows, list)
        told = [(row["file"], row["key"], sorted(row["names"])) for row in rows]
        assert told[1:3] == [
            ("/rsa.pem", "RSA", ["a.test", "b.test"]),
            ("/ecdsa.pem", "ECDSA", ["a.test", "b.test"]),
        ]


async def test_each_of_them_is_warned_of_before_its_end(autojump_clock: MockClock) -> None:
    held = MemoryFiles(dict(files().contents))
    end = datetime.datetime.fromtimestamp(MORNING + 3 * 86400, datetime.UTC)
    begin = end - datetime.timedelta(days=90)
    leaf = authority().issue_cert(
        "a.test", "b.test", key_type=KeyType.RSA, not_before=begin, not_after=end
    )
    held.contents["/rsa.pem"], held.contents["/rsa.key"] = pem_of(leaf)
    async with scene({"a": answers(200)}, top=LISTENER, files=held) as play:
        _, events = play.stage.instance.events.since(0)
        told = [each.sentence for each in events if each.kind == "certificate.expires"]
        assert told == [
            "/rsa.pem (a.test, b.test) expires in 3 days; clients refuse it once it has expired"
        ]
