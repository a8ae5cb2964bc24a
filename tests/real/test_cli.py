"""The commands against a running admin server: what they print and how they end."""

import io
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from balancer.admin import server
from balancer.cli import client
from balancer.cli.main import COMMANDS, main
from tests.support.admin_instance import AdminInstance, admin_instance
from tests.support.fake_control import A, B, exchange
from tests.support.real_balancer import wait_for


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[AdminInstance]:
    with admin_instance(tmp_path / "admin.sock") as running:
        yield running


def call(instance: AdminInstance, *words: str) -> Result:
    return CliRunner().invoke(main, [*words, "--admin", str(instance.path)])


@contextmanager
def meanwhile(function: Callable[[], object]) -> Iterator[None]:
    """In a thread of its own."""
    thread = threading.Thread(target=function)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def test_help_lists_every_command_without_loading_it_and_says_the_same() -> None:
    text = CliRunner().invoke(main, ["--help"]).output
    for name, command in COMMANDS.items():
        assert f"  {name} " in text
        assert command.short_help in text


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_short_help_is_the_commands_own(name: str) -> None:
    command = COMMANDS[name].load()
    assert command.short_help == COMMANDS[name].short_help
    assert command.name == name


def test_a_mistyped_command_is_usage_and_gets_a_hint() -> None:
    result = CliRunner().invoke(main, ["stauts"])
    assert result.exit_code == 2
    assert "Did you mean 'status'?" in result.stderr


def test_status_shows_a_table_for_people(instance: AdminInstance) -> None:
    instance.control.rows[B].update(
        health="unhealthy", available=False, reason="3 of 3 probes failed: connect refused"
    )
    result = call(instance, "status")
    assert result.exit_code == 0
    assert result.stdout.startswith("instance test, ready, up ")
    assert "web  least-connections, 1 of 2 available" in result.stdout
    up, unhealthy = [line for line in result.stdout.splitlines() if line.startswith("127.")]
    assert up.split()[:5] == [A, "up", "1", "0", "1200"]
    assert unhealthy.split()[:2] == [B, "unhealthy"]
    assert unhealthy.rstrip().endswith("3 of 3 probes failed: connect refused")


def test_status_marks_panic_and_what_came_by_the_command_line(instance: AdminInstance) -> None:
    instance.control.panic = True
    instance.control.rows[A].update(ejected=True, origin="cli")
    output = call(instance, "status", "web").stdout
    assert "PANIC" in output
    assert f"{A} (cli)" in output
    assert "ejected (panic)" in output


def test_status_as_json_is_what_the_instance_said(instance: AdminInstance) -> None:
    result = call(instance, "status", "--json")
    assert json.loads(result.stdout) == instance.control.status(None)


def test_hostile_text_cannot_steer_the_terminal(instance: AdminInstance) -> None:
    instance.control.rows[A]["reason"] = "\x1b]0;owned\x07 [bold]plain[/bold]"
    output = call(instance, "status").stdout
    assert "\x1b" not in output
    assert "[bold]plain[/bold]" in output


@pytest.mark.parametrize("width", [30, 40, 60, 80, 200])
def test_a_narrow_terminal_loses_no_word_of_state_or_reason(width: int) -> None:
    from rich.console import Console

    from balancer.cli.table import status_tables
    from tests.support.fake_control import FakeControl

    out = Console(width=width, record=True, file=open("/dev/null", "w"), color_system=None)  # noqa: SIM115
    with out.file:
        out.print(status_tables(FakeControl().status(None), now=1_767_225_672.0, width=width))
    text = out.export_text()
    assert max(len(line) for line in text.splitlines()) <= width
    assert "up" in text
    for word in ("probes", "passed"):
        assert word in text
    assert ("1m 12s" in text) == (width >= 76)


def test_an_unknown_pool_is_refused_with_the_instances_hint(instance: AdminInstance) -> None:
    result = call(instance, "status", "wbe")
    assert result.exit_code == 1
    assert "did you mean 'web'?" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["add", "web", "127.0.0.1:9003", "--weight", "2"], "added web 127.0.0.1:9003"),
        (["add", "web", A], f"web {A} is there already"),
        (["drain", "web", A], f"web {A} is draining"),
        (["ready", "web", A], f"web {A} is ready"),
        (["maintenance", "web", A], f"web {A} is maintenance"),
        (["weight", "web", A, "0"], f"web {A} has weight 0"),
        (["remove", "web", A], f"removed web {A}"),
        (["reload"], "reloaded edge.toml: pool web: 1 backend added"),
        (["upgrade"], "upgraded: process 2 serves"),
    ],
)
def test_a_change_says_what_was_done(instance: AdminInstance, words: list[str], said: str) -> None:
    result = call(instance, *words)
    assert (result.exit_code, result.stdout) == (0, f"{said}\n")


def test_the_socket_may_be_named_before_the_command_or_in_the_environment(
    instance: AdminInstance,
) -> None:
    path = str(instance.path)
    before = CliRunner().invoke(main, ["--admin", path, "ready", "web", A])
    by_environment = CliRunner().invoke(main, ["ready", "web", A], env={"BALANCER_ADMIN": path})
    assert (before.exit_code, by_environment.exit_code) == (0, 0)
    wins = CliRunner().invoke(
        main, ["ready", "web", A, "--admin", path], env={"BALANCER_ADMIN": "/nowhere"}
    )
    assert wins.exit_code == 0


def test_an_unknown_backend_is_refused(instance: AdminInstance) -> None:
    result = call(instance, "drain", "web", "127.0.0.1:9999")
    assert result.exit_code == 1
    assert f"did you mean '{A}'?" in result.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["weight", "web", A, "heavy"],
        ["weight", "web", A, "1001"],
        ["drain", "web"],
        ["drain", "web", A, "--timeout", "soon"],
        ["run"],
        ["run", "--listen", "127.0.0.1:0"],
        ["run", "edge.toml", "--to", "127.0.0.1:1"],
        ["run", "edge.toml", "--state", "x"],
    ],
)
def test_wrong_usage_ends_with_2(words: list[str]) -> None:
    assert CliRunner().invoke(main, words).exit_code == 2


def test_a_default_place_that_others_could_have_made_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a temp folder of all users, the first to come could be taken for the instance."""
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    folder = tmp_path / "balancer-4711"
    folder.mkdir()
    environment = {"TMPDIR": str(tmp_path), "XDG_RUNTIME_DIR": "", "BALANCER_ADMIN": ""}
    folder.chmod(0o777)
    refused = CliRunner().invoke(main, ["status"], env=environment)
    assert refused.exit_code == 3
    assert "is not trusted: others may write to" in refused.stderr
    folder.chmod(0o700)
    assert "no instance at" in CliRunner().invoke(main, ["status"], env=environment).stderr


@pytest.mark.parametrize("place", ["127.0.0.1:9900", "http://127.0.0.1:9900"])
def test_an_address_instead_of_a_socket_is_wrong_usage(place: str) -> None:
    listen = ["run", "--listen", "127.0.0.1:0", "--to", "127.0.0.1:1"]
    for words in (["status"], ["stop"], listen, ["run", "edge.toml"]):
        for result in (
            CliRunner().invoke(main, ["--admin", place, *words]),
            CliRunner().invoke(main, [*words, "--admin", place]),
        ):
            assert result.exit_code == 2
            assert "only the path of a unix socket" in result.stderr


@pytest.mark.parametrize("weight", ["-1", "-17", "x", "1001", "1.5", "9" * 5000, "--heavy", "²"])
def test_a_weight_that_is_none_is_told_what_a_weight_is(weight: str) -> None:
    for words in (["weight", "web", A, weight], ["add", "web", A, "--weight", weight]):
        result = CliRunner().invoke(main, words)
        assert result.exit_code == 2
        assert f"a weight is a whole number from 0 to 1000, not '{weight}'" in result.stderr


def test_the_command_that_changes_a_weight_still_has_its_help() -> None:
    assert CliRunner().invoke(main, ["weight", "-h"]).exit_code == 0


def test_help_of_run_says_when_the_environment_counts() -> None:
    text = " ".join(CliRunner().invoke(main, ["run", "--help"]).output.split())
    assert "BALANCER_ADMIN counts without CONFIG only" in text


def test_removing_under_work_names_what_would_be_cut(instance: AdminInstance) -> None:
    instance.control.in_flight[A] = [exchange(number) for number in range(12)]
    result = call(instance, "remove", "web", A)
    assert result.exit_code == 1
    assert "GET /big from 127.0.0.1:50000, 12s" in result.stderr
    assert "and 2 more" in result.stderr
    assert "give --force:" in result.stderr
    assert call(instance, "remove", "web", A, "--force").exit_code == 0


def test_a_change_that_workers_have_not_confirmed_names_them(instance: AdminInstance) -> None:
    instance.control.laggards = ("worker 2",)
    result = call(instance, "ready", "web", A)
    assert result.exit_code == 4
    assert "not yet confirmed by worker 2" in result.stderr


def test_a_change_that_could_not_be_saved_is_refused(instance: AdminInstance) -> None:
    instance.control.disk_full = True
    result = call(instance, "ready", "web", A)
    assert result.exit_code == 1
    assert "nothing was changed" in result.stderr


def test_drain_wait_shows_what_runs_and_returns_with_the_last(instance: AdminInstance) -> None:
    running = [exchange(1, "/slow"), exchange(2, "/\x1b[2Jbig")]
    instance.control.in_flight[A] = running

    def end_one_by_one() -> None:
        for _ in range(2):
            # The first look that begins from now on has seen it whole when the second one begins.
            enough = instance.control.looks + 2
            wait_for(lambda enough=enough: instance.control.looks >= enough)  # type: ignore[misc]
            running.pop()

    with meanwhile(end_one_by_one):
        result = call(instance, "drain", "web", A, "--wait", "--timeout", "30s")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == f"web {A} is draining"
    assert lines[1] == f"waiting for 2 exchanges on web {A}:"
    assert "  GET /slow from 127.0.0.1:50000, 12s" in lines
    assert "  GET /\\x1b[2Jbig from 127.0.0.1:50000, 12s" in lines
    assert f"waiting for 1 exchange on web {A}:" in lines
    assert lines[-1].startswith(f"nothing runs on web {A} after")


def test_a_drain_that_takes_too_long_ends_with_4_and_says_what_runs(
    instance: AdminInstance,
) -> None:
    instance.control.in_flight[A] = [exchange(1)]
    result = call(instance, "drain", "web", A, "--timeout", "0.1s")
    assert result.exit_code == 4
    assert f"still in flight after 0.1 s: 1 exchange on web {A}" in result.stderr
    assert "GET /big" in result.stderr


def test_a_drain_that_somebody_undoes_is_no_endless_wait(instance: AdminInstance) -> None:
    instance.control.in_flight[A] = [exchange(1)]

    def undo() -> None:
        wait_for(lambda: instance.control.looks)
        instance.control.rows[A].update(admin="ready")

    with meanwhile(undo):
        result = call(instance, "drain", "web", A, "--wait")
    assert result.exit_code == 4
    assert "somebody set it to ready" in result.stderr


def test_an_instance_that_goes_during_a_wait_is_told(instance: AdminInstance) -> None:
    instance.control.in_flight[A] = [exchange(1)]

    def go() -> None:
        wait_for(lambda: instance.control.looks)
        instance.end()

    with meanwhile(go):
        result = call(instance, "drain", "web", A, "--wait")
    assert result.exit_code == 3
    assert "waiting for 1 exchange" in result.stdout


def test_events_are_one_line_each(instance: AdminInstance) -> None:
    log = instance.control.log
    cause = "3 of 3 probes failed: connect refused"
    instance.do(lambda: log.add("backend.unhealthy", cause=cause, pool="web", backend=A))
    result = call(instance, "events")
    assert result.stdout == (
        f"1970-01-01T00:00:00.000Z backend.unhealthy  web {A}: {cause}; takes no new requests\n"
    )
    assert json.loads(call(instance, "events", "--json").stdout)["cause"] == cause


@pytest.mark.parametrize("words", [["events"], ["events", "--follow"], ["config", "show"]])
def test_a_reading_command_that_is_refused_says_why(
    instance: AdminInstance, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "CONNECTIONS_MAX", 0)
    result = call(instance, *words)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == "balancer: 0 admin connections are open already; close one\n"


def test_an_instance_that_does_not_answer_is_told_with_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that is stopped by a debugger: the kernel still takes connections for it."""
    monkeypatch.setattr(client, "ANSWER_S", 0.1)
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        read = CliRunner().invoke(main, ["status", "--admin", str(path)])
        changed = CliRunner().invoke(main, ["ready", "web", A, "--admin", str(path)])
    assert (read.exit_code, changed.exit_code) == (3, 3)
    who = f"balancer: the instance at {path} (process {os.getpid()})"
    assert read.stderr.startswith(f"{who} is there but did not answer within 0.1 s")
    assert "what was done" not in read.stderr
    assert changed.stderr.startswith(f"{who} took the request and gave no answer within 0.1 s")
    assert changed.stderr.endswith("ask 'balancer status' what was done\n")


def test_a_command_waits_for_its_turn_where_many_have_come_at_once(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(str(path))
        busy.listen(0)
        busy.settimeout(20)
        waiting.connect(str(path))

        def let_in() -> None:
            time.sleep(0.2)
            for _ in range(2):
                busy.accept()[0].close()

        with meanwhile(let_in):
            result = CliRunner().invoke(main, ["status", "--admin", str(path)])
    assert "accepts no connection" not in result.stderr
    assert "ended the connection without an answer" in result.stderr


@pytest.mark.parametrize("signalled", [False, True])
def test_an_instance_that_accepts_nothing_is_not_told_to_be_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signalled: bool
) -> None:
    """Also where a signal has come while its queue was full."""
    monkeypatch.setattr(client, "ANSWER_S", 0.3)
    before = signal.signal(signal.SIGUSR1, lambda *_: None)

    def say_something() -> None:
        if signalled:
            time.sleep(0.1)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as silent, socket.socket(socket.AF_UNIX) as waiting:
        silent.bind(str(path))
        silent.listen(0)
        waiting.connect(str(path))
        with meanwhile(say_something):
            result = CliRunner().invoke(main, ["status", "--admin", str(path)])
    signal.signal(signal.SIGUSR1, before)
    assert result.exit_code == 3
    assert "is there but accepts no connection" in result.stderr
    assert "start one" not in result.stderr


def test_following_shows_the_past_and_the_new_and_ends_with_3(instance: AdminInstance) -> None:
    log = instance.control.log
    instance.do(lambda: log.add("instance.started", cause="run edge.toml"))

    def change_and_end() -> None:
        wait_for(lambda: instance.control.looks >= 2)  # at the past, and for what is new
        instance.do(lambda: log.add("instance.stopping", cause="signal TERM"))
        for _ in range(10):
            instance.do(lambda: None)  # steps enough to send it
        instance.end()

    with meanwhile(change_and_end):
        result = call(instance, "events", "--follow", "--json")
    assert [json.loads(line)["kind"] for line in result.stdout.splitlines()] == [
        "instance.started",
        "instance.stopping",
    ]
    assert result.exit_code == 3
    assert "has gone" in result.stderr


def test_a_reload_of_a_file_with_errors_ends_with_1_and_shows_every_one(
    instance: AdminInstance,
) -> None:
    errors = "edge.toml:3: workers: expected a number\nedge.toml:9: there is no pool 'wbe'"
    instance.control.wrong_with_file = f"edge.toml is not valid; nothing was changed\n{errors}"
    result = call(instance, "reload")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"balancer: edge.toml is not valid; nothing was changed\n{errors}\n"


def test_an_upgrade_that_fails_ends_with_1_and_says_who_serves(instance: AdminInstance) -> None:
    instance.control.upgrade_fails = True
    result = call(instance, "upgrade")
    assert result.exit_code == 1
    assert result.stderr.endswith("the old one goes on\n")


@pytest.mark.parametrize("command", ["reload", "upgrade"])
def test_a_worker_that_lags_ends_a_reload_and_an_upgrade_with_4(
    instance: AdminInstance, command: str
) -> None:
    instance.control.laggards = ("worker 1",)
    result = call(instance, command)
    assert result.exit_code == 4
    assert "not yet confirmed by worker 1" in result.stderr


@pytest.mark.parametrize("command", ["reload", "upgrade"])
def test_a_long_command_is_not_waited_for_where_nobody_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(client, "ANSWER_S", 0.1)
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        result = CliRunner().invoke(main, [command, "--admin", str(path)])
    assert result.exit_code == 3
    assert "did not answer within 0.1 s" in result.stderr


def test_stop_waits_until_the_instance_has_gone(instance: AdminInstance) -> None:
    ended: list[float] = []

    def end_later() -> None:
        wait_for(lambda: instance.control.stopped)
        time.sleep(0.4)
        ended.append(time.monotonic())
        instance.end()

    with meanwhile(end_later):
        result = call(instance, "stop", "--now")
        returned = time.monotonic()
    assert returned > ended[0]
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "stopped")
    assert instance.control.stopped is True


@pytest.mark.parametrize(
    "words",
    [["status"], ["status", "--json"], ["drain", "web", A], ["events"], ["stop"], ["reload"]],
)
def test_without_an_instance_the_socket_the_reason_and_a_way_out_are_named(
    tmp_path: Path, words: list[str]
) -> None:
    missing = tmp_path / "admin.sock"
    result = CliRunner().invoke(main, [*words, "--admin", str(missing)])
    assert result.exit_code == 3
    assert f"no instance at {missing}: there is no such file" in result.stderr
    assert "--admin or BALANCER_ADMIN" in result.stderr
    assert result.stdout == ""


def test_a_socket_whose_file_was_removed_names_the_process_that_has_it(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    lock = tmp_path / "admin.sock.lock"
    lock.write_text(json.dumps({"pid": os.getpid(), "config": "c.toml", "since": "now"}))
    result = CliRunner().invoke(main, ["--admin", str(path), "status"])
    assert result.exit_code == 3
    assert f"process {os.getpid()} has it, but the file is gone" in result.stderr
    for stale in (json.dumps({"pid": 2**22 + 1}), "", "[]"):
        lock.write_text(stale)
        result = CliRunner().invoke(main, ["--admin", str(path), "status"])
        assert "there is no such file; start one" in result.stderr


def test_a_folder_is_no_socket(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["--admin", str(tmp_path), "status"])
    assert (result.exit_code, "it is no socket" in result.stderr) == (3, True)


def test_a_dead_socket_and_a_path_too_long_are_told_apart(tmp_path: Path) -> None:
    dead = tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(dead))
    result = CliRunner().invoke(main, ["status", "--admin", str(dead)])
    assert result.exit_code == 3
    assert "nobody listens any more" in result.stderr
    result = CliRunner().invoke(main, ["status", "--admin", "/" + "x" * 200])
    assert result.exit_code == 3
    assert "too long" in result.stderr


def test_something_else_at_the_socket_is_told(tmp_path: Path) -> None:
    path = tmp_path / "other.sock"
    with socket.socket(socket.AF_UNIX) as foreign:
        foreign.bind(str(path))
        foreign.listen()

        def answer() -> None:
            connection, _ = foreign.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")

        thread = threading.Thread(target=answer)
        thread.start()
        result = CliRunner().invoke(main, ["status", "--admin", str(path)])
        thread.join()
    assert result.exit_code == 3
    assert "no balancer" in result.stderr


@pytest.mark.parametrize(
    ("states", "told"),
    [
        (["serving"], ", 1 worker\n"),
        (["serving", "serving"], ", 2 workers\n"),
        (["serving", "hung", "down"], ", 1 of 3 workers serve (1 hung, 2 down)\n"),
    ],
)
def test_the_headline_tells_of_the_workers(states: list[str], told: str) -> None:
    from rich.console import Console

    from balancer.cli.table import status_tables

    workers = [{"worker": number, "state": state} for number, state in enumerate(states)]
    out = Console(width=100, record=True, file=io.StringIO())
    out.print(status_tables({"instance": "i", "workers": workers}, now=0.0, width=100))
    assert told in "\n".join(line.rstrip() for line in out.export_text().splitlines()) + "\n"


def shown(status: dict[str, object]) -> list[str]:
    """The lines of the table, wide enough for all of it."""
    from rich.console import Console

    from balancer.cli.table import status_tables

    out = Console(width=200, record=True, file=io.StringIO())
    out.print(status_tables({"instance": "i", **status}, now=0.0, width=200))
    return [line.rstrip() for line in out.export_text().splitlines()]


def test_the_headline_tells_who_is_there_and_who_was_refused() -> None:
    refused = {"shed": 17, "turned_away": 1, "connection_crashes": 2}
    assert shown({"connections": 4, **refused})[0] == (
        "instance i, 4 connections, 17 requests shed, 1 connection turned away,"
        " 2 connections crashed"
    )
    nobody = dict.fromkeys(refused, 0)
    assert shown({"connections": 1, **nobody})[0] == "instance i, 1 connection"


def test_certificates_are_shown_with_their_ends_and_what_keeps_new_ones_out() -> None:
    row = {"file": "/a.pem", "state": "ok", "left": "expires in 90 days"}
    rows = [
        {"listener": "0.0.0.0:443", "names": ["a.test", "*.a.test"], "key": "RSA", **row},
        {
            "listener": "pool web",
            "names": [],
            **row,
            "state": "expired",
            "left": "expired 3 days ago",
        },
    ]
    lines = shown({"certificates": rows, "certificates_problem": "/a.pem: holds nothing\x1b"})
    assert lines[-4:] == [
        "certificates",
        "  0.0.0.0:443  a.test, *.a.test  RSA  expires in 90 days  /a.pem",
        "  pool web  no name  expired 3 days ago  /a.pem",
        "  new ones are not in use: /a.pem: holds nothing\\x1b",
    ]
    assert "certificates" not in shown({"certificates": [], "certificates_problem": None})


@pytest.mark.parametrize("words", [("reload",), ("drain", "web", A), ("upgrade",)])
def test_a_command_that_falls_into_an_upgrade_is_given_to_the_process_that_has_taken_over(
    instance: AdminInstance, words: tuple[str, ...]
) -> None:
    instance.control.too_late = 1
    assert call(instance, *words).exit_code == 0
    assert instance.control.too_late == 0
    instance.control.too_late = 3
    result = call(instance, *words)
    assert result.exit_code == 1
    assert "another process has taken over; ask again" in result.stderr
    assert instance.control.too_late == 1, "asked twice, and no more"
