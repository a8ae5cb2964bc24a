"""structlog lines: one each for machines, readable for people, and without bytes that forge."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from balancer.telemetry.journal import leads_to_journal
from balancer.telemetry.line_sink import MemorySink
from balancer.telemetry.logs import configure, get_logger

NASTY = "\x1b[31m\r\n\x00\x7f\x9b\u202ered"


@pytest.fixture
def sink() -> Iterator[MemorySink]:
    yield MemorySink()
    structlog.reset_defaults()


def crash() -> Exception:
    """An exception with a traceback, whose message quotes a client."""
    try:
        raise ValueError(f"read {NASTY}")
    except ValueError as exc:
        return exc


def test_a_json_line_loads_back(sink: MemorySink) -> None:
    configure(sink, json=True, level="info", colours=False)
    get_logger().warning("name.unknown", backend="a:1", because="no answer", tries=2)
    [line] = sink.lines
    told = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", told.pop("timestamp"))
    assert told == {
        "event": "name.unknown",
        "level": "warning",
        "backend": "a:1",
        "because": "no answer",
        "tries": 2,
    }


def test_a_json_line_is_ascii_without_control_bytes_whatever_it_says(sink: MemorySink) -> None:
    configure(sink, json=True, level="info", colours=False)
    get_logger().error("x", said=NASTY, raw=NASTY.encode(), exc_info=crash())
    [line] = sink.lines
    assert all(0x20 <= byte <= 0x7E for byte in line.removesuffix(b"\n"))
    told = json.loads(line)
    assert told["said"] == NASTY
    assert "ValueError: read " in told["exception"]


def test_a_console_line_is_readable(sink: MemorySink) -> None:
    configure(sink, json=False, level="info", colours=False)
    get_logger().info("listener.open", because="listening on é")
    [line] = sink.lines
    assert re.fullmatch(
        r"\S+Z \[info +\] listener.open +because='?listening on é'?\n", line.decode()
    )


def test_what_a_client_sent_can_neither_colour_nor_forge_a_line(sink: MemorySink) -> None:
    configure(sink, json=False, level="info", colours=False)
    get_logger().info("x", said=NASTY, raw=NASTY.encode(), listed=[NASTY])
    [line] = sink.lines
    assert line.decode().removesuffix("\n").isprintable()


def test_a_traceback_on_a_console_has_lines_and_nothing_else_unprintable(sink: MemorySink) -> None:
    configure(sink, json=False, level="info", colours=False)
    get_logger().error("connection.crashed", exc_info=crash())
    [entry] = sink.lines
    lines = entry.decode().splitlines()
    assert len(lines) > 3
    assert all(line.isprintable() for line in lines)
    assert "ValueError: read \\x1b[31m\\r" in lines


@pytest.mark.parametrize(
    ("terminal", "no_color", "coloured"),
    [(True, None, True), (True, "", True), (True, "1", False), (False, None, False)],
)
def test_colours_need_a_terminal_and_no_color_refuses_them(
    sink: MemorySink,
    monkeypatch: pytest.MonkeyPatch,
    terminal: bool,
    no_color: str | None,
    coloured: bool,
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color is not None:
        monkeypatch.setenv("NO_COLOR", no_color)
    configure(sink, json=False, level="info", colours=terminal)
    get_logger().info("x")
    assert (b"\x1b[" in sink.lines[0]) is coloured


@pytest.mark.parametrize(
    ("level", "heard"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_only_what_is_asked_for_is_written(sink: MemorySink, level: str, heard: list[str]) -> None:
    configure(sink, json=True, level=level, colours=False)
    log = get_logger()
    for name in ("debug", "info", "warning", "error"):
        getattr(log, name)(name)
    assert [json.loads(line)["event"] for line in sink.lines] == heard


def test_a_text_that_is_no_unicode_is_written_all_the_same(sink: MemorySink) -> None:
    configure(sink, json=False, level="info", colours=False)
    get_logger().info("x", path="\udc80")
    assert b"udc80" in sink.lines[0]


@pytest.mark.parametrize("json", [True, False])
def test_the_journal_is_told_how_much_a_line_matters(sink: MemorySink, json: bool) -> None:
    configure(sink, json=json, level="debug", colours=False, journal=True)
    log = get_logger()
    for name in ("debug", "info", "warning", "error"):
        getattr(log, name)("x")
    log.exception("x", exc_info=crash())
    assert [line[:3] for line in sink.lines] == [b"<7>", b"<6>", b"<4>", b"<3>", b"<3>"]


def test_what_leads_to_the_journal_is_what_the_manager_says(tmp_path: Path) -> None:
    with (tmp_path / "journal").open("wb") as journal, (tmp_path / "log").open("wb") as log:
        place = os.fstat(journal.fileno())
        env = {"JOURNAL_STREAM": f"{place.st_dev}:{place.st_ino}"}
        assert leads_to_journal(env, journal.fileno())
        assert not leads_to_journal(env, log.fileno())
        assert not leads_to_journal({}, journal.fileno())
