"""`scripts/fuzz`: runs the targets of `tests/fuzz` under libFuzzer, and says what came out."""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from venv_apart import Unavailable, python_apart  # noqa: E402

from tests.fuzz.corpus import keep, kept, line_of  # noqa: E402 - the path comes first
from tests.fuzz.targets import TARGETS  # noqa: E402

# Longer inputs say nothing that shorter ones do not, and take their time.
INPUT_BYTES_MAX = 2000
# Of one input, before it counts as a hang.
INPUT_S_MAX = 10
_DONE = re.compile(r"^Done (\d+) runs in (\d+) second", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of one target: inputs, seconds, and the bytes in which something was found."""

    target: str
    inputs: int
    seconds: int
    found: bytes | None
    said: str


def main(arguments: Sequence[str]) -> int:
    options = options_from(arguments)
    try:
        atheris = python_apart("fuzz", "atheris")
    except Unavailable as error:
        print(f"fuzz: {error}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)

        def run_one(target: str) -> Ran:
            return run(target, place / target, atheris, options.runs)

        with ThreadPoolExecutor(options.jobs) as jobs:
            results = list(jobs.map(run_one, options.targets))
        if options.keep:
            for result in results:
                keep(result.target, minimal(result.target, place / result.target, atheris))
    for result in results:
        told = "no finding" if result.found is None else "FINDING"
        print(f"{result.target:10} {result.inputs:>12,} inputs in {result.seconds:>5} s: {told}")
        if result.found is not None:
            print(f"{result.said}\nfor tests/fuzz/corpus/{result.target}.txt:")
            print(line_of(result.found))
    return 1 if any(result.found is not None for result in results) else 0


def options_from(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--runs", type=int, default=1_000_000, help="inputs for each target")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="targets at a time")
    parser.add_argument("--keep", action="store_true", help="add to the corpus what is worth it")
    options = parser.parse_args(arguments)
    unknown = [target for target in options.targets if target not in TARGETS]
    if unknown:
        parser.error(f"no such target: {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    options.targets = options.targets or list(TARGETS)
    return options


def run(target: str, place: Path, atheris: Path, runs: int) -> Ran:
    """Feed one target; what libFuzzer keeps is in `place` afterwards."""
    place.mkdir()
    for number, data in enumerate(kept(target)):
        (place / f"kept-{number}").write_bytes(data)
    limits = [f"-runs={runs}", f"-max_len={INPUT_BYTES_MAX}", f"-timeout={INPUT_S_MAX}"]
    artifacts = place.with_suffix(".found")
    artifacts.mkdir()
    said = libfuzzer(target, atheris, *limits, f"-artifact_prefix={artifacts}/", str(place))
    found = next((path.read_bytes() for path in sorted(artifacts.iterdir())), None)
    done = _DONE.search(said)
    inputs, seconds = (int(done[1]), int(done[2])) if done else (0, 0)
    if done is None and found is None:
        found = b""
    return Ran(target, inputs, seconds, found, "\n".join(said.splitlines()[-40:]))


def minimal(target: str, place: Path, atheris: Path) -> list[bytes]:
    """The fewest inputs that reach all that is reached by those in `place` and those kept."""
    chosen = place.with_suffix(".chosen")
    chosen.mkdir()
    libfuzzer(target, atheris, "-merge=1", f"-max_len={INPUT_BYTES_MAX}", str(chosen), str(place))
    return [path.read_bytes() for path in chosen.iterdir()]


def libfuzzer(target: str, atheris: Path, *arguments: str) -> str:
    """What it says."""
    apart = next((atheris.parent.parent / "lib").glob("python*")) / "site-packages"
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.endless", target, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(apart)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return done.stdout.decode(errors="replace")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
