"""The access line: all that is known, and no byte that a client could write a line of its own with."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.telemetry.access_log import render_console, render_json
from balancer.telemetry.record import AttemptRecord, ExchangeRecord

WALL = 1767225600.0
AT = "2026-01-01T00:00:00.000Z"


def record() -> ExchangeRecord:
    return ExchangeRecord(
        number=1,
        request_id="id1",
        client="9.9.9.9",
        began=100.0,
        head_at=100.001,
        method="GET",
        target="/x?y",
        tls="TLSv1.3",
        host="a",
        pool="web",
        status=200,
        bytes_up=3,
        bytes_down=4096,
        answer_at=100.0135,
        ended=100.02,
        attempts=[
            AttemptRecord(
                backend="10.0.0.1:80", began=100.002, ended=100.003, outcome="connect refused"
            ),
            AttemptRecord(
                backend="10.0.0.2:80",
                began=100.003,
                connected=100.004,
                ended=100.02,
                outcome="status 200",
                reused=False,
            ),
        ],
    )


def test_the_json_line_says_everything() -> None:
    line = render_json(record(), WALL)
    assert line.endswith(b"}\n")
    assert json.loads(line) == {
        "event": "access",
        "at": AT,
        "id": "id1",
        "client": "9.9.9.9",
        "method": "GET",
        "host": "a",
        "path": "/x?y",
        "tls": "TLSv1.3",
        "status": 200,
        "bytes_up": 3,
        "bytes_down": 4096,
        "pool": "web",
        "backend": "10.0.0.2:80",
        "attempts": [
            {
                "backend": "10.0.0.1:80",
                "outcome": "connect refused",
                "reused": False,
                "connect_ms": None,
                "ms": 1.0,
            },
            {
                "backend": "10.0.0.2:80",
                "outcome": "status 200",
                "reused": False,
                "connect_ms": 1.0,
                "ms": 17.0,
            },
        ],
        "head_ms": 1.0,
        "answer_ms": 12.5,
        "total_ms": 20.0,
        "fault": "",
    }


def test_the_console_line_is_read_by_people() -> None:
    assert render_console(record(), WALL) == (
        b'2026-01-01T00:00:00.000Z 9.9.9.9 "GET /x?y" 200 4096 B 20.0 ms pool=web '
        b"[10.0.0.1:80 connect refused 1.0 ms, 10.0.0.2:80 status 200 17.0 ms] id=id1 TLSv1.3\n"
    )


def test_what_went_wrong_stands_at_the_end() -> None:
    broken = record()
    broken.fault = "client left"
    assert render_console(broken, WALL).endswith(b" id=id1 TLSv1.3 fault: client left\n")


def test_an_exchange_that_reached_nothing_is_told_too() -> None:
    empty = ExchangeRecord(number=1, request_id="", client="unix", began=1.0, head_at=1.0)
    told = json.loads(render_json(empty, WALL))
    assert (told["backend"], told["attempts"], told["answer_ms"]) == (None, [], None)
    assert b" pool=- [] id=" in render_console(empty, WALL)


TEXT_FIELDS = ("client", "method", "target", "host", "request_id", "fault")


def with_text(text: str) -> ExchangeRecord:
    found = record()
    for name in TEXT_FIELDS:
        setattr(found, name, text)
    found.attempts[0].outcome = text
    return found


@pytest.mark.parametrize("code", [*range(0x20), 0x22, 0x5C, *range(0x7F, 0x100), 0x2028, 0x1F600])
def test_no_unusual_character_reaches_a_line(code: int) -> None:
    """Control bytes, quotes, backslashes and all that is not ASCII are escaped, in both forms."""
    text = f"a{chr(code)}b"
    for line in (render_json(with_text(text), WALL), render_console(with_text(text), WALL)):
        assert line.endswith(b"\n")
        assert all(0x20 <= byte <= 0x7E for byte in line[:-1])
    told = json.loads(render_json(with_text(text), WALL))
    assert (told["path"], told["host"], told["fault"]) == (text, text, text)
    shown = f'"a\\x{code:02x}b a\\x{code:02x}b"'.encode()
    assert shown in render_console(with_text(text), WALL)


def told(attempt: AttemptRecord) -> dict[str, object]:
    connected = attempt.connected
    return {
        "backend": attempt.backend,
        "outcome": attempt.outcome,
        "reused": attempt.reused,
        "connect_ms": None if connected is None else round((connected - attempt.began) * 1000, 3),
        "ms": round((attempt.ended - attempt.began) * 1000, 3),
    }


def by_json(record: ExchangeRecord) -> bytes:
    """The line as json.dumps writes it."""
    line = {
        "event": "access",
        "at": AT,
        "id": record.request_id,
        "client": record.client,
        "method": record.method,
        "host": record.host,
        "path": record.target,
        "tls": record.tls,
        "status": record.status,
        "bytes_up": record.bytes_up,
        "bytes_down": record.bytes_down,
        "pool": record.pool,
        "backend": record.attempts[-1].backend if record.attempts else None,
        "attempts": [told(attempt) for attempt in record.attempts],
        "head_ms": round((record.head_at - record.began) * 1000, 3),
        "answer_ms": None
        if record.answer_at is None
        else round((record.answer_at - record.head_at) * 1000, 3),
        "total_ms": round((record.ended - record.began) * 1000, 3),
        "fault": record.fault,
    }
    return json.dumps(line, separators=(",", ":")).encode()


TEXTS = st.one_of(st.text(), st.text(st.characters(max_codepoint=0x80)), st.just("plain"))
TIMES = st.floats(0, 1e6)
ATTEMPTS = st.builds(
    AttemptRecord,
    backend=TEXTS,
    began=TIMES,
    reused=st.booleans(),
    connected=st.none() | TIMES,
    ended=TIMES,
    outcome=TEXTS,
)
RECORDS = st.builds(
    ExchangeRecord,
    number=st.integers(),
    request_id=TEXTS,
    client=TEXTS,
    began=TIMES,
    head_at=TIMES,
    method=TEXTS,
    target=TEXTS,
    host=TEXTS,
    tls=st.sampled_from(["", "TLSv1.2", "TLSv1.3"]),
    pool=TEXTS,
    status=st.integers(0, 999),
    bytes_up=st.integers(0),
    bytes_down=st.integers(0),
    answer_at=st.none() | TIMES,
    ended=TIMES,
    fault=TEXTS,
    attempts=st.lists(ATTEMPTS, max_size=3),
)


@given(RECORDS)
def test_the_template_says_what_json_would_say(record: ExchangeRecord) -> None:
    """The same keys in the same order, the same values, and no byte that JSON would have escaped."""
    line = render_json(record, WALL)
    expected = json.loads(by_json(record))
    assert json.loads(line) == expected
    assert list(json.loads(line)) == list(expected)
    assert re.fullmatch(rb"[\x20-\x7e]*\n", line)


@pytest.mark.parametrize(
    ("wall", "at"),
    [
        (1767225600.0, "2026-01-01T00:00:00.000Z"),
        (1767225600.0625, "2026-01-01T00:00:00.062Z"),
        (1767225600.9375, "2026-01-01T00:00:00.937Z"),
        (1767225601.5, "2026-01-01T00:00:01.500Z"),
    ],
)
def test_the_time_is_that_of_the_line(wall: float, at: str) -> None:
    assert json.loads(render_json(record(), wall))["at"] == at
    assert render_console(record(), wall).startswith(at.encode())


@given(st.text())
def test_every_line_is_one_line_and_loads_back(text: str) -> None:
    line = render_json(with_text(text), WALL)
    assert line.count(b"\n") == 1
    assert json.loads(line)["path"] == text
    console = render_console(with_text(text), WALL)
    assert re.fullmatch(rb"[\x20-\x7e]*\n", console)
    assert console.count(b'"') == 2  # nobody ends the quoted request but us
