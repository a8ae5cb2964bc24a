"""Slow and idle clients by the thousand, and honest ones beside them who must not notice."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
# On a machine that does other things as well a percentile of few answers is no promise.
SLACK_MS = 150.0


def attacked(folder: Path, *options: str) -> dict[tuple[str, str], dict[str, Any]]:
    """What honest clients saw, by peer and attack."""
    env = os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    for program in ("slowhttptest", "nginx"):
        if shutil.which(program, path=env["PATH"]) is None:
            if os.environ.get("CI"):
                pytest.fail(f"{program} is not installed")
            pytest.skip(f"{program} is not installed")
    subprocess.run(
        [str(ROOT / "scripts" / "attack"), "--out", str(folder), *options],
        check=True, timeout=900, env=env, stdin=subprocess.DEVNULL, capture_output=True,
    )  # fmt: skip
    rows = json.loads((folder / "results.json").read_text())
    return {(row["peer"], row["case"]): row for row in rows}


def test_honest_clients_do_not_notice_an_attack_of_all_kinds_at_once(tmp_path: Path) -> None:
    rows = attacked(
        tmp_path, "--peers", "balancer", "--case", "all-at-once", "--seconds", "3",
        "--clients", "250",
    )  # fmt: skip
    calm, during = rows["balancer", "nobody"], rows["balancer", "all-at-once"]
    assert during["failures"] == 0, during["first_failure"]
    assert during["asked"] > 100
    assert during["p50_ms"] <= 2 * calm["p50_ms"] + SLACK_MS


@pytest.mark.long
@pytest.mark.timeout(900)
def test_no_attack_costs_honest_clients_more_than_nginx_would(tmp_path: Path) -> None:
    rows = attacked(tmp_path, "--seconds", "20")
    for case in sorted({case for _, case in rows}):
        row, other = rows["balancer", case], rows["nginx", case]
        assert row["failures"] == 0, (case, row["first_failure"])
        allowed = max(2 * rows["balancer", "nobody"]["p99_ms"], other["p99_ms"])
        assert row["p99_ms"] <= allowed + SLACK_MS, case
