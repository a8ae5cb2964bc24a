"""How each kind of case is measured: programs started, rounds interleaved, readings taken."""

import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench_backend import Backend
from bench_cases import RESTING, Entrant, Plan
from bench_load import LoadFailed, Traffic, drive, resting, still_open
from bench_peers import PEERS, Wanted
from bench_processes import CannotStart, Ports, Program, programs_ended
from bench_report import Result, access_lines_remark

WARM_UP_S = 1.0
WARM_UPS_MAX = 10
ROUNDS_OF_BACKENDS = 4
SETTLE_S = 0.1  # what the last requests of a round leave to be done
PROBING_S = 20.0


@dataclass(frozen=True, slots=True)
class Bench:
    """What all cases share."""

    folder: Path
    ports: Ports
    backend: Backend
    rounds: int
    round_s: float

    def folder_of(self, entrant: Entrant) -> Path:
        return self.folder / "entrants" / re.sub(r"\W+", "-", entrant.label)

    def start(self, entrant: Entrant) -> Program:
        """Start an entrant, which may not be serving yet."""
        folder = self.folder_of(entrant)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        wanted = Wanted(
            folder=folder,
            port=self.ports.take(),
            backends=self.backend.addresses(entrant.backends),
            workers=entrant.workers,
            probe_every_s=entrant.probe_every_s,
            splice=entrant.splice,
            tls_port=self.ports.take() if entrant.tls else 0,
            root=entrant.root,
        )
        command = PEERS[entrant.peer].command(wanted)
        program = Program(command, wanted.port, folder, log=folder / "output")
        program.load_port = wanted.tls_port or wanted.port
        return program


def measure(plan: Plan, bench: Bench) -> Result:
    """Run one case; an entrant that fails is left out, with the reason."""
    result = Result(plan.case)
    HOW[plan.how](plan, bench, result)
    shutil.rmtree(bench.folder / "entrants", ignore_errors=True)
    return result


@contextmanager
def serving(
    entrants: tuple[Entrant, ...], bench: Bench, result: Result
) -> Iterator[dict[Entrant, Program]]:
    """The entrants that came up, all of them running side by side."""
    with programs_ended() as programs:
        up = {}
        for entrant in entrants:
            program = bench.start(entrant)
            programs.append(program)
            try:
                program.wait_until_serving()
                require_workers(entrant, program)
                up[entrant] = program
            except CannotStart as error:
                result.left_out[entrant.label] = str(error)
        yield up


def require_workers(entrant: Entrant, program: Program) -> None:
    """Refuse to give figures for several workers where there are not so many.

    Raises:
        CannotStart: There are fewer.
    """
    below = len(program.pids()) - 1
    if entrant.workers > 1 and below < entrant.workers:
        raise CannotStart(f"{entrant.workers} workers wanted, {below} worker processes found")


def over_traffic(plan: Plan, bench: Bench, result: Result) -> None:
    with serving(plan.entrants, bench, result) as up:
        for entrant, program in up.items():
            warm_up(plan, bench, result, entrant, program)
        for _ in range(bench.rounds):
            for entrant, program in up.items():
                if entrant.label not in result.left_out:
                    round_of_traffic(plan, bench, result, entrant, program)
    if plan.traffic.handshakes:
        return
    for entrant in plan.entrants:
        requests = sum(reading["requests"] for reading in result.readings.get(entrant.label, ()))
        if remark := access_lines_remark(access_lines(bench.folder_of(entrant)), requests):
            result.remarks[entrant.label] = remark


def access_lines(folder: Path) -> int:
    """Lines in the access log, or for one that logs to its output, there."""
    count = 0
    for name in ("access.log", "output"):
        if (folder / name).exists():
            with (folder / name).open("rb") as file:
                count += sum(1 for _ in file)
    return count


def warm_up(plan: Plan, bench: Bench, result: Result, entrant: Entrant, program: Program) -> None:
    """Load it until every backend has surely been dialled, or long enough."""
    asked = 0
    try:
        for _ in range(WARM_UPS_MAX):
            asked += drive(plan.traffic, program.load_port, WARM_UP_S, bench.folder).requests
            if asked >= ROUNDS_OF_BACKENDS * entrant.backends:
                return
    except LoadFailed as error:
        result.left_out[entrant.label] = str(error)


def round_of_traffic(
    plan: Plan, bench: Bench, result: Result, entrant: Entrant, program: Program
) -> None:
    try:
        reading, errors = under_load(program, plan.traffic, bench, plan.unit_bytes)
    except LoadFailed as error:
        result.left_out[entrant.label] = str(error)
    else:
        result.add(entrant.label, reading, errors)


def under_load(
    program: Program, traffic: Traffic, bench: Bench, unit_bytes: int = 0
) -> tuple[dict[str, float], dict[str, int]]:
    """One round: what the clients saw, and what it cost the proxy."""
    before = program.cpu()
    seen = drive(traffic, program.load_port, bench.round_s, bench.folder)
    time.sleep(SETTLE_S)
    used = used_since(before, program.cpu())
    done = seen.bytes_read / unit_bytes if unit_bytes else seen.requests
    if not done:
        raise LoadFailed(f"no request was answered; errors: {seen.errors}")
    working = working_processes(used)
    reading = {
        "cpu_us": sum(working) / done * 1e6,
        "all_us": sum(used.values()) / done * 1e6,
        "requests": seen.requests,
        "per_s": done / seen.seconds,
        "memory_mib": program.memory()[1] / 1024,
    }
    if seen.requests:  # a large answer may take longer than a round
        reading |= {"p50_ms": seen.p50_ms, "p99_ms": seen.p99_ms}
    if len(working) > 1:
        reading["busiest_pct"] = max(working) / sum(working) * 100
    return reading, seen.errors


def used_since(before: dict[int, float], after: dict[int, float]) -> dict[int, float]:
    """Seconds of CPU by process; one that has ended meanwhile is not counted."""
    return {pid: now - before.get(pid, 0.0) for pid, now in after.items()}


def working_processes(used: dict[int, float]) -> list[float]:
    """CPU of each worker; without any, of the one process that there is."""
    leader, *workers = used.values()
    return workers or [leader]


def over_resting(plan: Plan, bench: Bench, result: Result) -> None:
    for entrant in plan.entrants:
        with serving((entrant,), bench, result) as up:
            for program in up.values():
                try:
                    rest(entrant, program, bench, result)
                except (LoadFailed, OSError) as error:
                    result.left_out[entrant.label] = str(error)


def rest(entrant: Entrant, program: Program, bench: Bench, result: Result) -> None:
    """What each connection adds to the proxy's memory, and whether others notice them."""
    drive(Traffic(connections=64), program.port, WARM_UP_S, bench.folder)
    before_kib = program.memory()[1]
    with resting(program.port, RESTING) as crowd:
        time.sleep(1.0)
        added_kib = program.memory()[1] - before_kib
        reading, errors = under_load(program, Traffic(), bench)
        lost = RESTING - still_open(crowd)
    if lost:
        errors["resting connections closed"] = lost
    result.add(entrant.label, {"kib_each": added_kib / RESTING, **reading}, errors)


def over_starts(plan: Plan, bench: Bench, result: Result) -> None:
    for _ in range(min(bench.rounds, 5)):
        for entrant in plan.entrants:
            if entrant.label in result.left_out:
                continue
            with programs_ended() as programs:
                program = bench.start(entrant)
                programs.append(program)
                try:
                    took_s = program.wait_until_serving(poll_s=0.002)
                    result.add(entrant.label, {"start_ms": took_s * 1e3})
                except CannotStart as error:
                    result.left_out[entrant.label] = str(error)


def over_probing(plan: Plan, bench: Bench, result: Result) -> None:
    for entrant in plan.entrants:
        with serving((entrant,), bench, result) as up:
            for program in up.values():
                time.sleep(2 * entrant.probe_every_s)  # until each backend has its steady interval
                before, start = program.cpu(), time.monotonic()
                time.sleep(PROBING_S)
                took_s = time.monotonic() - start
                used = used_since(before, program.cpu())
                reading = {
                    "probing_pct": used[program.process.pid] / took_s * 100,
                    "all_pct": sum(used.values()) / took_s * 100,
                    "memory_mib": program.memory()[1] / 1024,
                }
                result.add(entrant.label, reading)


HOW: dict[str, Callable[[Plan, Bench, Result], None]] = {
    "traffic": over_traffic,
    "resting": over_resting,
    "start": over_starts,
    "probing": over_probing,
}
