"""`scripts/bench`: chooses cases and peers, runs them, and says what came out.

Every program that it starts is ended with it, whether it is told to stop or fails.
"""

import argparse
import json
import platform
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from bench_backend import FEW, Backend
from bench_cases import PLANS, Plan
from bench_measures import Bench, measure
from bench_peers import PEERS
from bench_picture import picture
from bench_processes import CannotStart, OthersCpu, Ports, programs_ended
from bench_report import Result, plain, report

ROUNDS, ROUND_S = 5, 4
TMPFS = Path("/dev/shm")  # noqa: S108 - a private folder is made in it
TMPFS_BYTES = 4 << 30


class Stopped(Exception):
    """Somebody asked us to end."""


def main() -> int:
    options = options_from(sys.argv[1:])
    if options.list:
        for plan in PLANS:
            print(f"{plan.case.name:14} {plan.case.title}")
        print(f"{'peers':14} {', '.join(PEERS)}")
        return 0
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        plans = chosen(options.case, available(options.peers))
        if options.beside:
            plans = [plan.beside(options.beside.resolve()) for plan in plans]
        results, heading = run(plans, options.rounds, options.seconds)
    except Stopped:
        print("bench: ended, with everything that it had started", file=sys.stderr)
        return 130
    except CannotStart as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    keep(options, results, heading)
    return 0


def options_from(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description="The balancer beside other proxies, in one run."
    )
    names = [plan.case.name for plan in PLANS]
    parser.add_argument("--quick", action="store_true", help="one round of a second")
    parser.add_argument("--case", type=some_of(names), default=names, help="some, with commas")
    parser.add_argument("--peers", type=some_of(PEERS), default=list(PEERS), help="some, likewise")
    parser.add_argument("--rounds", type=int, help=f"default: {ROUNDS}")
    parser.add_argument("--seconds", type=int, help=f"of a round; default: {ROUND_S}")
    parser.add_argument("--beside", type=Path, help="another checkout, whose balancer takes part")
    parser.add_argument("--out", type=Path, help="folder for table.md, picture.svg, results.json")
    parser.add_argument("--picture", type=Path, help="where the picture goes")
    parser.add_argument("--list", action="store_true", help="name the cases and peers")
    options = parser.parse_args(words)
    options.rounds = options.rounds or (1 if options.quick else ROUNDS)
    options.seconds = options.seconds or (1 if options.quick else ROUND_S)
    return options


class some_of:  # noqa: N801 - reads as a function where it is used
    """Turns `a,b` into a list of names, each one of those known."""

    def __init__(self, known: Iterable[str]) -> None:
        self.known = list(known)

    def __call__(self, text: str) -> list[str]:
        names = text.split(",")
        for name in names:
            if name not in self.known:
                raise argparse.ArgumentTypeError(f"no {name!r}; there are {', '.join(self.known)}")
        return names


def stop(_number: int, _frame: FrameType | None) -> NoReturn:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    raise Stopped


def available(wanted: Sequence[str]) -> list[str]:
    """The peers that can run here; says of each other why it cannot.

    Raises:
        CannotStart: There is no wrk, or no nginx to be the backend.
    """
    for program in ("wrk", "nginx"):
        if not shutil.which(program):
            raise CannotStart(f"needs {program}; on Debian: apt-get install {program}")
    found = []
    for name in wanted:
        if why := PEERS[name].why_not():
            print(f"bench: without {name}: {why}", file=sys.stderr)
        else:
            found.append(name)
    return found


def chosen(cases: Sequence[str], peers: Sequence[str]) -> list[Plan]:
    limited = [plan.limited_to(peers) for plan in PLANS if plan.case.name in cases]
    return [plan for plan in limited if plan.entrants]


def run(plans: Sequence[Plan], rounds: int, round_s: float) -> tuple[list[Result], str]:
    """Measure case after case, printing each; return the results and a line on how they came."""
    minutes = sum(plan.seconds(rounds, round_s) for plan in plans) / 60
    print(f"bench: {len(plans)} cases; takes about {minutes:.0f} min", file=sys.stderr)
    others, start = OthersCpu(), time.monotonic()
    results = []
    with private_folder() as folder, programs_ended() as programs:
        ports = Ports()
        most = max((entrant.backends for plan in plans for entrant in plan.entrants), default=0)
        backend = Backend(folder, ports, most if most > FEW else 0)
        programs.append(backend.program)
        backend.program.wait_until_serving()
        bench = Bench(folder, ports, backend, rounds, round_s)
        for plan in plans:
            print(f"bench: {plan.case.name}", file=sys.stderr)
            results.append(measure(plan, bench))
            print("\n".join(report(results[-1])), flush=True)
    took_min = (time.monotonic() - start) / 60
    heading = (
        f"Medians of rounds of {round_s} s, {rounds} each, interleaved; {versions()}; {processor()}; "
        f"other programs took {others.share():.0%} of the machine; {took_min:.0f} min, "
        f"{time.strftime('%Y-%m-%d')}."
    )
    print(heading)
    return results, heading


@contextmanager
def private_folder() -> Iterator[Path]:
    """A folder in memory if there is room, so that no disk takes part."""
    roomy = TMPFS.is_dir() and shutil.disk_usage(TMPFS).free > TMPFS_BYTES
    folder = Path(tempfile.mkdtemp(prefix="balancer-bench-", dir=TMPFS if roomy else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def versions() -> str:
    said = [f"Python {platform.python_version()}"]
    for command in (["nginx", "-v"], ["haproxy", "-v"]):
        if shutil.which(command[0]):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            said.append(" ".join((done.stdout + done.stderr).split("\n")[0].split()[:3]))
    return ", ".join(said)


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return f"{line.partition(':')[2].strip()}, Linux {platform.release()}"
    return platform.machine()


def keep(options: argparse.Namespace, results: list[Result], heading: str) -> None:
    """Write what was asked for."""
    places = [options.picture] if options.picture else []
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        text = [heading, "", *(line for result in results for line in report(result))]
        (options.out / "table.md").write_text("\n".join(text))
        (options.out / "results.json").write_text(json.dumps(plain(results), indent=1))
        places.append(options.out / "picture.svg")
    for place in places:
        place.write_text(picture(results, heading))


if __name__ == "__main__":
    sys.exit(main())
