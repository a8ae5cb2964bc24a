"""Certificates in force: reloaded with the configuration and when files change, and told of in time."""

import datetime

import pytest
import trio
import trustme
from trio.testing import MockClock

from balancer.core.ledger import Refused
from balancer.rehearsal.stage import MORNING
from balancer.wire.tls_socket import Coded
from tests.support.certificates import (
    authority,
    client_context,
    files_for,
    pem_of,
    with_client_certificate,
)
from tests.support.edge_client import EdgeClient
from tests.support.scene import Scene, config_for, scene
from tests.support.virtual_backend import answers, by_target

LISTENER = """
[[listeners]]
bind = "127.0.0.1:8443"
[listeners.tls]
certificates = [{ certificate = "/main.pem", key = "/main.key" }]
"""
DAY_S = 86400.0


def renewed() -> tuple[bytes, bytes]:
    return pem_of(authority().issue_cert("a.test"))


def expiring_in(days: float) -> tuple[bytes, bytes]:
    end = datetime.datetime.fromtimestamp(MORNING + days * DAY_S, datetime.UTC)
    begin = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    return pem_of(authority().issue_cert("a.test", not_before=begin, not_after=end))


CONTEXT = client_context()  # sessions are of one context


async def shown(play: Scene, session: object = None) -> Coded:
    """What a new client is shown; the connection is closed."""
    client = await EdgeClient.connect(play.network, 8443)
    await client.speak_tls(CONTEXT, "a.test", session)
    assert (await client.get()).status == 200
    client.close()
    assert isinstance(client.sock, Coded)
    return client.sock


def events(play: Scene, kind: str) -> list[str]:
    _, all_of_them = play.stage.instance.events.since(0)
    return [event.sentence for event in all_of_them if event.kind == kind]


async def test_files_that_change_are_taken_up_when_both_are_there(
    autojump_clock: MockClock,
) -> None:
    files = files_for(main="a.test")
    async with scene({"a": answers(200)}, top=LISTENER, files=files) as play:
        before = (await shown(play)).engine.getpeercert(True)
        stays = await EdgeClient.connect(play.network, 8443)
        await stays.speak_tls(client_context(), "a.test")
        chain, key = renewed()
        files.contents["/main.pem"] = chain
        await trio.sleep(4)
        files.contents["/main.key"] = key
        await trio.sleep(15)
        after = (await shown(play)).engine.getpeercert(True)
        assert after != before
        assert events(play, "certificates.not_loaded") == []
        assert events(play, "certificates.loaded") == [
            "/main.pem, /main.key changed; new connections are given them"
        ]
        assert (await stays.get()).status == 200
        stays.close()


@pytest.mark.parametrize(
    ("path", "contents", "why"),
    [
        ("/main.key", renewed()[1], "the key does not belong to the first certificate of the file"),
        ("/main.pem", b"", "holds no certificate in PEM"),
        ("/main.key", None, "cannot be read: No such file or directory"),
    ],
)
async def test_files_that_cannot_be_used_change_nothing(
    autojump_clock: MockClock, path: str, contents: bytes | None, why: str
) -> None:
    files = files_for(main="a.test")
    async with scene({"a": answers(200)}, top=LISTENER, files=files) as play:
        before = (await shown(play)).engine.getpeercert(True)
        if contents is None:
            del files.contents[path]
        else:
            files.contents[path] = contents
        await trio.sleep(60)
        assert (await shown(play)).engine.getpeercert(True) == before
        (said,) = events(play, "certificates.not_loaded")
        assert why in said
        assert said.endswith("; those that were loaded before stay in use")
        assert why in str(play.stage.instance.desk.status(None)["certificates_problem"])
        with pytest.raises(Refused) as refused:
            await play.stage.instance.desk.reload()
        begin = "stage.toml is not valid; nothing was changed\nstage.toml:6: listeners[0].tls."
        assert str(refused.value).startswith(f"{begin}certificates[0].")
        assert f": {path}: {why}" in str(refused.value)
        assert (await shown(play)).engine.getpeercert(True) == before


async def test_files_that_are_as_they_were_again_are_told_of_after_an_alarm(
    autojump_clock: MockClock,
) -> None:
    files = files_for(main="a.test")
    async with scene({"a": answers(200)}, top=LISTENER, files=files) as play:
        key, files.contents["/main.key"] = files.contents["/main.key"], b"nothing"
        await trio.sleep(20)
        assert len(events(play, "certificates.not_loaded")) == 1
        files.contents["/main.key"] = key
        await trio.sleep(20)
        assert events(play, "certificates.loaded") == [
            "/main.key changed; all files can be used again, and hold what is in use"
        ]
        assert play.stage.instance.desk.status(None)["certificates_problem"] is None


async def test_a_reload_takes_up_certificates_and_a_reload_of_the_same_keeps_sessions(
    autojump_clock: MockClock,
) -> None:
    files = files_for(main="a.test")
    async with scene({"a": answers(200)}, top=LISTENER, files=files) as play:
        session = (await shown(play)).engine.session
        play.stage.config = config_for("a", top=LISTENER + "hsts = '1d'\n")
        done = await play.stage.instance.desk.reload()
        assert done.message == "reloaded stage.toml: listener 127.0.0.1:8443: tls.hsts changed"
        assert (await shown(play, session)).engine.session_reused
        files.contents["/main.pem"], files.contents["/main.key"] = renewed()
        done = await play.stage.instance.desk.reload()
        assert done.message == "reloaded stage.toml: certificates loaded anew"
        assert not (await shown(play, session)).engine.session_reused
        assert (await play.stage.instance.desk.reload()).changed is False


async def test_a_listener_gets_tls_by_a_reload_and_loses_it(autojump_clock: MockClock) -> None:
    files = files_for(main="a.test")
    plain = '[[listeners]]\nbind = "127.0.0.1:8443"\n'
    async with scene({"a": answers(200)}, top=plain, files=files) as play:
        old = await EdgeClient.connect(play.network, 8443)
        assert (await old.get()).status == 200
        play.stage.config = config_for("a", top=LISTENER)
        await play.stage.instance.desk.reload()
        await shown(play)
        assert (await old.get()).status == 200, "it has come under other rules"
        play.stage.config = config_for("a", top=plain)
        await play.stage.instance.desk.reload()
        new = await EdgeClient.connect(play.network, 8443)
        assert (await new.get()).status == 200
        for client in (old, new):
            client.close()


@pytest.mark.parametrize("then", ["required", "off"])
async def test_whom_another_authority_let_in_leaves_at_once_or_behind_the_answer_under_way(
    autojump_clock: MockClock, then: str
) -> None:
    asks = LISTENER + 'client_auth = "required"\nclient_ca = "/ca.pem"\n'
    files = files_for(main="a.test")
    backend = by_target({"/slow": answers(200, b"slow", after_s=3)}, answers(200))
    async with scene({"a": backend}, top=asks, files=files) as play:
        rests, busy = [await EdgeClient.connect(play.network, 8443) for _ in range(2)]
        for client in (rests, busy):
            await client.speak_tls(with_client_certificate(client_context()), "a.test")
            assert (await client.get()).status == 200
        assert (await play.stage.instance.desk.reload()).changed is False
        assert (await rests.get()).status == 200, "nothing has changed"
        await busy.send(b"GET /slow HTTP/1.1\r\nHost: a.test\r\n\r\n")
        await trio.sleep(1)
        if then == "off":
            play.stage.config = config_for("a", top=LISTENER)
        else:
            files.contents["/ca.pem"] = trustme.CA().cert_pem.bytes()
        assert (await play.stage.instance.desk.reload()).changed
        with trio.fail_after(1):
            assert await rests.at_end()
        assert (await busy.answer()).body == b"slow"
        with trio.fail_after(1):
            assert await busy.at_end()
        for client in (rests, busy):
            client.close()


async def test_a_file_of_two_listeners_is_told_of_once(autojump_clock: MockClock) -> None:
    files = files_for(main="a.test")
    files.contents["/main.pem"], files.contents["/main.key"] = expiring_in(-3)
    both = LISTENER + LISTENER.replace("8443", "8444")
    async with scene({"a": answers(200)}, top=both, files=files) as play:
        said = events(play, "certificate.expires")
        assert said == ["/main.pem (a.test) expired 3 days ago; clients refuse it now"]
        rows = play.stage.instance.desk.status(None)["certificates"]
        assert isinstance(rows, list)
        assert len(rows) == 2
        metrics = play.stage.instance.desk.metrics().decode()
        for port in (8443, 8444):
            seconds = MORNING - 3 * DAY_S
            label = f'{{listener="127.0.0.1:{port}",file="/main.pem"}}'
            assert f"balancer_certificate_expiry_time_seconds{label} {seconds}\n" in metrics


async def test_an_operator_is_warned_a_month_a_week_and_nothing_before(
    autojump_clock: MockClock,
) -> None:
    files = files_for(main="a.test")
    files.contents["/main.pem"], files.contents["/main.key"] = expiring_in(32)
    async with scene({"a": answers(200)}, top=LISTENER, files=files) as play:
        said = events(play, "certificate.expires")
        assert said == []
        for days, words in ((2, "expires in 30 days"), (23, "expires in 7 days"), (8, "expired")):
            autojump_clock.jump(days * DAY_S)
            await trio.sleep(10)
            said = events(play, "certificate.expires")
            assert words in said[-1]
        assert len(said) == 3
        rows = play.stage.instance.desk.status(None)["certificates"]
        assert isinstance(rows, list)
        (row,) = rows
        assert row["state"] == "expired"
        assert row["names"] == ["a.test"]
        assert row["expires"] == "2026-02-02T00:00:00Z"
