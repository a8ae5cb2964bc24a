"""`scripts/attack`: attacks each peer in turn while honest clients ask, and compares what they saw.

Every program that it starts is ended with it.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from attack_clients import Seen, honest, idling
from bench_backend import Backend
from bench_peers import PEERS, Wanted
from bench_processes import CannotStart, Ports, Program, programs_ended

# Connections a second of an attack; before honest clients are counted, it has built up.
RATE = 250
SETTLE_S = 1.0
SLOW = {
    "slow-headers": "-H -i 10 -x 24 -t GET",
    "slow-body": "-B -i 10 -x 10 -s 8192 -t POST",
    "slow-read": "-X -w 10 -y 20 -n 5 -z 32 -k 1 -t GET",
}
PATHS = {"slow-headers": "/", "slow-body": "/upload", "slow-read": "/1m"}
NOBODY, IDLE, ALL = "nobody", "many-idle", "all-at-once"
CASES = (NOBODY, *SLOW, IDLE, ALL)


@dataclass(frozen=True)
class Row:
    """One attack on one peer: what honest clients saw of it."""

    peer: str
    case: str
    asked: int
    failures: int
    p50_ms: float
    p99_ms: float
    first_failure: str


def main() -> int:
    parser = argparse.ArgumentParser(prog="attack", description=__doc__)
    parser.add_argument("--peers", default="balancer,nginx")
    parser.add_argument("--case", default=",".join(CASES), help="among " + ", ".join(CASES))
    parser.add_argument("--seconds", type=float, default=20.0, help="for each attack")
    parser.add_argument("--clients", type=int, default=1000, help="slow ones; twice as many idle")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if not shutil.which("slowhttptest"):
        print("attack: slowhttptest is not installed", file=sys.stderr)
        return 1
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    wanted = options.case.split(",")
    cases = [case for case in CASES if case in wanted or case == NOBODY]
    try:
        rows = run(options.peers.split(","), cases, options.seconds, options.clients)
    except CannotStart as error:
        print(f"attack: {error}", file=sys.stderr)
        return 1
    text = table(rows)
    print(text)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "table.md").write_text(text + "\n")
        (options.out / "results.json").write_text(json.dumps([asdict(row) for row in rows]))
    return 0


def run(peers: list[str], cases: list[str], seconds: float, clients: int) -> list[Row]:
    """All attacks on one peer after the other; a peer is started anew for each."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="attack-") as name, programs_ended() as programs:
        folder, ports = Path(name), Ports()
        backend = Backend(folder, ports, 0)
        programs.append(backend.program)
        backend.program.wait_until_serving()
        for case in cases:
            for peer in peers:
                place = folder / f"{peer}-{case}"
                place.mkdir()
                port = ports.take()
                command = PEERS[peer].command(Wanted(place, port, backend.addresses(3)))
                program = Program(command, port, place, log=place / "output")
                programs.append(program)
                program.wait_until_serving()
                with attack(case, port, seconds, clients, place):
                    time.sleep(0 if case == NOBODY else clients / RATE + SETTLE_S)
                    rows.append(row_of(peer, case, honest(port, seconds)))
                programs.remove(program)
                program.end()
                print(f"attack: {peer} {case} done", file=sys.stderr)
    return rows


@contextmanager
def attack(case: str, port: int, seconds: float, clients: int, folder: Path) -> Iterator[None]:
    """The attack, for the time of the block."""
    with ExitStack() as stack:
        for name in SLOW if case == ALL else [case] if case in SLOW else []:
            stack.enter_context(slowly(name, port, seconds, clients, folder))
        if case in (IDLE, ALL):
            stack.enter_context(idling(port, 2 * clients))
        yield


@contextmanager
def slowly(name: str, port: int, seconds: float, clients: int, folder: Path) -> Iterator[None]:
    command = [
        "slowhttptest", *SLOW[name].split(), "-c", str(clients), "-r", str(RATE), "-v", "1",
        "-l", str(round(seconds) + 30), "-u", f"http://127.0.0.1:{port}{PATHS[name]}",
    ]  # fmt: skip
    with (folder / name).open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def row_of(peer: str, case: str, seen: Seen) -> Row:
    return Row(
        peer=peer,
        case=case,
        asked=len(seen.took) + len(seen.failures),
        failures=len(seen.failures),
        p50_ms=round(seen.percentile(0.50), 2) if seen.took else 0.0,
        p99_ms=round(seen.percentile(0.99), 2) if seen.took else 0.0,
        first_failure=seen.failures[0] if seen.failures else "",
    )


def table(rows: list[Row]) -> str:
    """What honest clients saw, each peer beside the other."""
    lines = ["| attack | peer | asked | failures | p50 ms | p99 ms | p99, of unattacked |"]
    lines.append("|---|---|---:|---:|---:|---:|---:|")
    calm = {row.peer: row.p99_ms for row in rows if row.case == NOBODY}
    for row in rows:
        ratio = row.p99_ms / calm[row.peer] if calm.get(row.peer) else 0.0
        lines.append(
            f"| {row.case} | {row.peer} | {row.asked} | {row.failures} | {row.p50_ms} |"
            f" {row.p99_ms} | {ratio:.2f} × |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
