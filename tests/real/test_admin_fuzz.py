"""No request ends an instance, none is answered with a 5xx, and a refused one changes nothing.

A process of its own gets requests made from the published document, and bytes bent from them.
"""

import contextlib
import json
import random
import re
import socket
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from balancer.admin.messages import AdminReply, AdminRequest, json_reply
from tests.fuzz.bending import bent
from tests.support.admin_instance import admin_instance
from tests.support.admin_requests import Asked, fits, made
from tests.support.real_balancer import Balancer, running

REQUESTS, REQUESTS_LONG = 2_000, 120_000
BENT, BENT_LONG = 2_000, 120_000
# What a strange transfer coding and a strange version get (RFC 9112 6.1, RFC 9110 15.6.6).
ALLOWED_5XX = {501, 505}
HEAD = re.compile(rb"HTTP/1\.1 (\d\d\d) [A-Za-z -]+\r\n((?:[A-Za-z-]+: [\x20-\x7e]+\r\n)+)\r\n")
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LENGTH = re.compile(rb"^Content-Length: (\d+)\r$", re.MULTILINE)


class Gone(Exception):
    """The connection has ended."""


class Caller:
    """One connection at a time to the admin socket; strict about what comes back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._sock: socket.socket | None = None
        self._came = b""

    def close(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def ask(self, asked: Asked) -> tuple[int, bytes]:
        return self.said(asked.raw, head_only=asked.method == "HEAD")

    def said(self, raw: bytes, *, head_only: bool = False) -> tuple[int, bytes]:
        """The status and body of the reply to what is one request."""
        if self._sock is None:
            self._connect()
        assert self._sock is not None
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._sock.sendall(raw)
        status, body, stays = self._reply(head_only=head_only)
        if status == 100:
            status, body, stays = self._reply(head_only=head_only)
        if not stays:
            self.close()
        return status, body

    def config(self) -> bytes:
        status, body = self.said(b"GET /v1/config HTTP/1.1\r\nHost: x\r\n\r\n")
        assert status == 200
        return body

    def statuses_of(self, raw: bytes, cut_at: list[int]) -> list[int]:
        """What came back, in full, for bytes that are sent in pieces; the connection is over then."""
        self.close()
        self._connect()
        assert self._sock is not None
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for start, end in zip([0, *cut_at], [*cut_at, len(raw)], strict=True):
                self._sock.sendall(raw[start:end])
            self._sock.shutdown(socket.SHUT_WR)
        statuses: list[int] = []
        with contextlib.suppress(Gone):
            while True:
                statuses.append(self._reply(head_only=False)[0])
        assert self._came == b"", self._came
        self.close()
        return statuses

    def _connect(self) -> None:
        self._sock, self._came = socket.socket(socket.AF_UNIX), b""
        self._sock.settimeout(20)
        self._sock.connect(str(self.path))

    def _reply(self, *, head_only: bool) -> tuple[int, bytes, bool]:
        while b"\r\n\r\n" not in self._came:
            self._more()
        head = HEAD.match(self._came)
        if head is None:
            assert self._came.startswith(CONTINUE), self._came
            self._came = self._came.removeprefix(CONTINUE)
            return 100, b"", True
        lengths = LENGTH.findall(head[2])
        assert len(lengths) == 1, head[2]
        length = 0 if head_only else int(lengths[0])
        while len(self._came) < head.end() + length:
            self._more()
        body = self._came[head.end() : head.end() + length]
        self._came = self._came[head.end() + length :]
        return int(head[1]), body, b"\r\nConnection: close\r\n" not in b"\r\n" + head[2]

    def _more(self) -> None:
        assert self._sock is not None
        try:
            part = self._sock.recv(1 << 20)
        except ConnectionResetError:
            part = b""
        if not part:
            raise Gone
        self._came += part


@pytest.fixture
def caller(tmp_path: Path) -> Iterator[Caller]:
    """A caller of an instance that, afterwards, is the same process with the same workers."""
    with running(tmp_path, backends=1, top="workers = 1") as (balancer, _):
        before = balancer.pids()
        calls = Caller(balancer.socket)
        with contextlib.closing(calls):
            yield calls
        assert balancer.pids() == before
        assert balancer.process.poll() is None
        assert_quiet(balancer)


def assert_quiet(balancer: Balancer) -> None:
    for line in balancer.log().splitlines():
        assert json.loads(line)["level"] in ("info", "warning"), line


def ask_much(caller: Caller, count: int) -> None:
    rng = random.Random(f"requests {count}")
    seen: Counter[int] = Counter()
    in_force = caller.config()
    for number in range(count):
        asked = made(rng)
        try:
            status, body = caller.ask(asked)
            assert 200 <= status < 500
            misfit = fits(asked, status, body)
            assert misfit is None, misfit
            changes = asked.method in ("POST", "DELETE") and status < 300
            now = caller.config()
            assert changes or now == in_force, "it was changed"
        except BaseException as exc:
            exc.add_note(f"request {number}: {asked}")
            raise
        in_force = now
        seen[status] += 1
    print(dict(seen))
    assert min(seen[status] for status in (200, 400, 404, 405, 409, 415)) > count / 500


def bend_much(caller: Caller, count: int) -> None:
    rng = random.Random(f"bent {count}")
    requests = [asked.raw for asked in (made(rng) for _ in range(400)) if asked.method != "HEAD"]
    seen: Counter[int] = Counter()
    for number in range(count):
        data = rng.choice(requests)
        for _ in range(rng.choice((1, 1, 2, 4))):
            data = bent(data, requests, rng)
        # Only whole words end an instance, and follow events for ever.
        data = re.sub(rb"(?i)/stop|/upgrade|follow", b"/status", data)
        try:
            cut_at = sorted(rng.randrange(len(data) + 1) for _ in range(rng.choice((0, 0, 1, 3))))
            statuses = caller.statuses_of(data, cut_at)
            assert all(status < 500 or status in ALLOWED_5XX for status in statuses), statuses
        except BaseException as exc:
            exc.add_note(f"bytes {number}: {data!r}")
            raise
        seen.update(statuses)
    print(dict(seen))
    assert seen[200] > count / 50
    assert seen[400] > count / 50


def test_no_request_made_from_the_document_is_answered_wrongly(caller: Caller) -> None:
    ask_much(caller, REQUESTS)


def test_no_bytes_at_all_are_answered_wrongly(caller: Caller) -> None:
    bend_much(caller, BENT)


@pytest.mark.long
def test_none_of_a_hundred_thousand_requests_is_answered_wrongly(caller: Caller) -> None:
    ask_much(caller, REQUESTS_LONG)


@pytest.mark.long
def test_none_of_a_hundred_thousand_bent_ones_is_answered_wrongly(caller: Caller) -> None:
    bend_much(caller, BENT_LONG)


# ---- whether anything would be found


def unchecked(request: AdminRequest, _known: object) -> object:
    return json.loads(request.body or b"{}")


def half_decoded(segment: str) -> str:
    return bytes.fromhex(segment.partition("%")[2][:2] or "61").decode()


def other_shape(_status: int, value: Mapping[str, object]) -> AdminReply:
    return json_reply(200, {**value, "more": 1})


@pytest.mark.parametrize(
    ("where", "defect"),
    [
        ("balancer.admin.api.checked_body", unchecked),
        ("balancer.admin.api._decoded", half_decoded),
        ("balancer.admin.calls.json_reply", other_shape),
    ],
)
def test_a_planted_defect_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, defect: object
) -> None:
    with admin_instance(tmp_path / "admin.sock") as instance:
        monkeypatch.setattr(where, defect)
        with contextlib.closing(Caller(instance.path)) as calls, pytest.raises(AssertionError):
            ask_much(calls, REQUESTS)


def test_a_reading_that_changes_something_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with admin_instance(tmp_path / "admin.sock") as instance:
        control = instance.control
        monkeypatch.setattr(control, "config", lambda: repr(control.rows))
        monkeypatch.setattr(control, "readiness", lambda: (bool(control.rows.popitem()), ["well"]))
        with (
            contextlib.closing(Caller(instance.path)) as calls,
            pytest.raises(AssertionError, match="it was changed"),
        ):
            ask_much(calls, REQUESTS)
