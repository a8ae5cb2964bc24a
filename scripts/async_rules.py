"""The rules of flake8-async that ruff lacks: nurseries, cancellation and clean-up done right.

flake8-async needs some 0.3 s for a file, so this looks only at files that hold async code, two
at a time, and remembers in .venv which ones were right as they are.
"""

import hashlib
import importlib.metadata
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MEMORY = ROOT / ".venv" / "async-rules-passed"
RULES = (
    "ASYNC101",  # no yield inside a nursery or cancel scope
    "ASYNC102",  # no await in finally without a shielded, bounded scope
    "ASYNC103",  # no except that may swallow Cancelled
    "ASYNC104",  # what may be Cancelled is raised again
    "ASYNC111",  # what a task uses is not closed before its nursery is
    "ASYNC112",  # no nursery for one awaited call
    "ASYNC113",  # start where start is meant, not start_soon
    "ASYNC118",  # the class of Cancelled is not hidden in a variable
    "ASYNC120",  # no checkpoint in except: cancelled there, it loses the exception
    "ASYNC123",  # no raise of one member out of an exception group
    "ASYNC125",  # a deadline is counted from the clock, never a constant
    "ASYNC126",  # subclasses of ExceptionGroup derive
    "ASYNC128",  # whatever takes task_status calls started()
)
# Left out: 106 (we import trio whole, but names from trio.lowlevel), 114 (needs a list kept by hand),
# 122 (for trio before 0.27), 124 (seams are async on every side), 127 (an opinion on httpx).
AT_ONCE = 2


def mark(path: Path) -> str:
    """What a file has to keep so that it need not be looked at again: it, the rules, the tool."""
    version = importlib.metadata.version("flake8-async")
    return hashlib.sha256(
        b"\0".join((path.read_bytes(), repr((version, RULES)).encode()))
    ).hexdigest()


def judge(paths: list[str]) -> str:
    """What flake8-async says of the files, a line each; nothing where all is well."""
    if not paths:
        return ""
    ran = subprocess.run(
        [sys.executable, "-m", "flake8_async", "--enable", ",".join(RULES), *paths],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return ran.stdout if ran.returncode else ""


def main() -> int:
    passed = set(MEMORY.read_text().split()) if MEMORY.exists() else set()
    marks = {
        str(path.relative_to(ROOT)): mark(path)
        for package in ("balancer", "healthcheck")
        for path in sorted((ROOT / package).rglob("*.py"))
        if b"async " in path.read_bytes()
    }
    unknown = [path for path in marks if marks[path] not in passed]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        findings = "".join(pool.map(judge, (unknown[start::AT_ONCE] for start in range(AT_ONCE))))
    wrong = {line.partition(":")[0] for line in findings.splitlines()}
    if wrong <= marks.keys():  # else the tool itself failed, and nothing is known
        MEMORY.write_text("\n".join(marks[path] for path in marks if path not in wrong))
    print(findings, end="")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
