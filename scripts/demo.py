"""The demo behind `scripts/run`: three small backends, the balancer in front, and a live table.

It owns every process that it starts and ends them all, whether it is told to stop (Ctrl-C, TERM,
HUP), the balancer ends, or it is itself killed. Nothing of a demo outlives it, its state included.
"""

import argparse
import http.client
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

from balancer.config.errors import ConfigErrors
from balancer.config.load import load_file

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "configs" / "demo.toml"
BALANCER = ROOT / ".venv" / "bin" / "balancer"
BACKEND = ROOT / "scripts" / "demo_backend.py"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SERVING_TIMEOUT_S = 10.0
ENDING_TIMEOUT_S = 5.0

Child = subprocess.Popen[bytes]


class CannotRun(Exception):
    """The demo cannot go on; the message says why and what to do."""


class Stopped(Exception):
    """Somebody asked us to end."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description="The demo: small backends, the balancer in front, a live table."
    )
    parser.add_argument("--config", type=Path, default=CONFIG, help="instead of configs/demo.toml")
    options = parser.parse_args()
    for number in SIGNALS:
        signal.signal(number, stop)
    screen = sys.stdin.isatty() and sys.stdout.isatty()
    try:
        with private_folder() as folder, children_ended() as demo:
            demo.config = options.config
            start(demo, folder, screen=screen)
            show(demo, screen=screen)
    except Stopped:
        print("\ndemo: ended, with everything that it had started")
    except CannotRun as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


def stop(_number: int, _frame: FrameType | None) -> NoReturn:
    """Turn the first signal into `Stopped`; later ones must not interrupt the ending."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise Stopped


class Demo:
    """What a demo consists of while it runs."""

    def __init__(self) -> None:
        self.config = CONFIG
        self.url = ""
        self.socket = ""
        self.log: Path | None = None
        self.environment: dict[str, str] = {}
        self.pools: dict[str, str] = {}  # backend address -> pool
        self.backends: dict[str, Child] = {}  # by address
        self.balancer: Child | None = None
        self.guards: list[Child] = []


# ---- starting ----------------------------------------------------------------------------------


@contextmanager
def private_folder() -> Iterator[Path]:
    """A folder of our own for socket, state and log, so that demos meet nobody's real instance."""
    folder = Path(tempfile.mkdtemp(prefix="balancer-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def start(demo: Demo, folder: Path, *, screen: bool) -> None:
    """Start everything; return when the balancer answers a request with a backend's reply."""
    demo.environment = {**os.environ, "BALANCER_DEMO_DIR": str(folder)}
    try:
        settings = load_file(demo.config, demo.environment)
    except ConfigErrors as errors:
        raise CannotRun(f"{demo.config} is not valid:\n{errors}") from None
    bind = settings.listeners[0].bind
    demo.url = f"http://{bind}/"
    demo.socket = str(settings.admin.socket)
    demo.pools = {
        backend.address: name for name, pool in settings.pools.items() for backend in pool.backends
    }
    for address in filter(None, (bind, settings.admin.health, *demo.pools)):
        require_free(address)
    for address in demo.pools:
        port = address.rpartition(":")[2]
        demo.backends[address] = child(demo, [sys.executable, str(BACKEND), port], guarded=True)
    start_balancer(demo, folder / "balancer.log" if screen else None)
    wait_until_serving(demo, bind)
    print(welcome(demo), flush=True)


def start_balancer(demo: Demo, log: Path | None) -> None:
    demo.log = log  # the table has the screen then, and the log goes to a file beside it
    demo.balancer = child(demo, [str(BALANCER), "run", str(demo.config)], log=log)
    # Should we be killed without a chance to clean up, our end of this pipe closes: the line that
    # sh waits for never comes, and it ends the balancer for us.
    guard = 'read -r _; kill -TERM "$1" 2>/dev/null'
    pid = str(demo.balancer.pid)
    demo.guards.append(child(demo, ["sh", "-c", guard, "guard", pid], guarded=True))


def child(
    demo: Demo, command: list[str], *, log: Path | None = None, guarded: bool = False
) -> Child:
    """Start a child outside our process group, so that Ctrl-C reaches us alone.

    A `guarded` one has a pipe from us as its standard input, and so notices when we are gone.
    """
    output = log.open("wb") if log else None
    try:
        return subprocess.Popen(
            command,
            env=demo.environment,
            stdin=subprocess.PIPE if guarded else subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    finally:
        if output:
            output.close()


def wait_until_serving(demo: Demo, bind: str) -> None:
    deadline = time.monotonic() + SERVING_TIMEOUT_S
    while not answers(bind):
        require_alive(demo)
        if time.monotonic() > deadline:
            raise CannotRun(f"{demo.url} gave no answer for {SERVING_TIMEOUT_S:.0f} s{told(demo)}")
        time.sleep(0.05)


def answers(bind: str) -> bool:
    connection = http.client.HTTPConnection(bind, timeout=1.0)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def require_alive(demo: Demo) -> None:
    if demo.balancer is not None and demo.balancer.poll() is not None:
        code = demo.balancer.returncode
        raise CannotRun(f"the balancer ended with exit code {code}{told(demo)}")


def told(demo: Demo) -> str:
    """The end of what the balancer had to say, if nobody could see it."""
    if demo.log is None:
        return ""
    lines = demo.log.read_text(errors="replace").splitlines()[-20:]
    return "".join(f"\n  {line}" for line in ("; the end of its log:", *lines)) if lines else ""


def welcome(demo: Demo) -> str:
    here = os.path.relpath(BALANCER)
    command = shlex.quote(here if not here.startswith("..") else str(BALANCER))
    python = command.removesuffix("balancer") + "python"
    backend = shlex.quote(os.path.relpath(BACKEND) if not here.startswith("..") else str(BACKEND))
    admin = f"--admin {shlex.quote(demo.socket)}"
    first, *_, last = demo.backends
    kills = "\n".join(
        f"    kill -9 {process.pid:<8}# the backend on {address}"
        for address, process in demo.backends.items()
    )
    return f"""
The balancer serves {demo.url} with {len(demo.backends)} backends. In another terminal, try:

    curl {demo.url}                  # again and again: another backend answers each time
{kills}
    {python} {backend} {last.rpartition(":")[2]}          # brings the last one back
    {command} drain {demo.pools[first]} {first} {admin}
    {command} ready {demo.pools[first]} {first} {admin}
    {command} events --follow {admin}

Ctrl-C ends the demo, and everything that it started.
"""


# ---- ports -------------------------------------------------------------------------------------


def require_free(address: str) -> None:
    """Refuse a port that somebody listens on: with SO_REUSEPORT we could share it unnoticed."""
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError as error:
            holder = holder_of(int(port))
            raise CannotRun(
                f"cannot use {address}: {error.strerror}{f' by {holder}' if holder else ''}.\n"
                "      End that program, or run with a config of your own: scripts/run CONFIG"
            ) from None


def holder_of(port: int) -> str | None:
    """Which process listens on `port`, as far as Linux lets us see."""
    inodes = set(listening_inodes(port))
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if link.readlink().name in inodes:
                process = link.parent.parent
                words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
                return f"process {process.name} ({' '.join(words).strip()[:80]})"
    return None


def listening_inodes(port: int) -> Iterator[str]:
    """The names, as in /proc/PID/fd, of the sockets that listen on `port`."""
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        with suppress(OSError):
            for row in table.read_text().splitlines()[1:]:
                fields = row.split()
                if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                    yield f"socket:[{fields[9]}]"


# ---- showing -----------------------------------------------------------------------------------


def show(demo: Demo, *, screen: bool) -> None:
    """Show the pool until somebody ends the table or the balancer ends."""
    command = [str(BALANCER), "status", "--admin", demo.socket]
    if not screen:
        subprocess.run(command, check=False, env=demo.environment)
        sys.stdout.flush()
        wait(demo)
        return
    # The table shares our terminal and our process group: Ctrl-C ends it, and then us.
    table = subprocess.Popen([*command, "--watch"], env=demo.environment)
    try:
        wait(demo, table)
    finally:
        end([table])
    if table.returncode:
        print(f"demo: the table ended with exit code {table.returncode}; Ctrl-C ends the demo")
        wait(demo)


def wait(demo: Demo, table: Child | None = None) -> None:
    """Return when the table has ended; tell of backends that do, if there is no table for it."""
    known = dict(demo.backends)
    while table is None or table.poll() is None:
        require_alive(demo)
        for address, process in list(known.items()):
            if process.poll() is not None:
                del known[address]
                if table is None:
                    print(f"demo: the backend on {address} has ended", flush=True)
        time.sleep(0.1)


# ---- ending ------------------------------------------------------------------------------------


@contextmanager
def children_ended() -> Iterator[Demo]:
    """A demo whose children are gone when the block is left: the balancer first, then the rest."""
    demo = Demo()
    try:
        yield demo
    finally:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        end(demo.guards)
        end([demo.balancer] if demo.balancer else [])
        end(list(demo.backends.values()))


def end(processes: list[Child]) -> None:
    """TERM, and KILL for those that are still there after a while."""
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + ENDING_TIMEOUT_S
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin:
            process.stdin.close()


if __name__ == "__main__":
    sys.exit(main())
