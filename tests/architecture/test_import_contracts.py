"""Each import contract of pyproject.toml bites: with one import too many it is broken."""

import importlib
import os
import shutil
import subprocess
import sys
from copy import deepcopy
from functools import cache
from pathlib import Path

import grimp
import pytest
from importlinter import Contract, api

from tests.architecture.our_sources import PACKAGES, ROOT

# contract id -> imports (importer, imported) of which each alone must break it
VIOLATIONS = {
    "layers": [
        ("balancer.core.backend", "balancer.wire.network"),
        ("balancer.wire.network", "balancer.proxy"),
        ("balancer.proxy", "balancer.admin"),
        ("balancer.telemetry", "balancer.wire.network"),
        ("balancer.worker", "balancer.config"),
        ("balancer.admin", "balancer.supervisor"),
        ("balancer.supervisor", "balancer.cli"),
        ("balancer.supervisor", "balancer.rehearsal"),
    ],
    "healthcheck-layers": [
        ("healthcheck.core.verdict", "healthcheck.probing"),
        ("healthcheck.probing", "healthcheck.monitor"),
    ],
    "healthcheck-apart": [("healthcheck.probing", "balancer.core.backend")],
    "core-is-pure": [
        (importer, library)
        for importer in ("balancer.core.backend", "healthcheck.core.verdict")
        for library in ("trio", "httpx", "structlog", "logging", "time", "datetime", "socket", "os")
    ],
    "probes-belong-to-the-supervisor": [
        ("balancer.core.backend", "healthcheck.monitor"),
        ("balancer.proxy", "healthcheck.probing"),
    ],
    "config-decides-alone": [("balancer.config", "balancer.wire.network")],
    "h11-in-one-module": [("balancer.proxy", "h11"), ("balancer.wire.network", "h11")],
    "httpx-in-one-module": [
        ("healthcheck.monitor", "httpx"),
        ("balancer.supervisor", "httpx"),
        ("healthcheck.monitor", "httpcore"),
        ("balancer.wire.network", "httpcore"),
    ],
    "structlog-behind-logs": [
        ("balancer.worker.link", "structlog"),
        ("balancer.supervisor.events", "structlog"),
        ("balancer.telemetry.metrics", "structlog"),
    ],
    "cli-is-light": [("balancer.cli", "trio"), ("balancer.cli.main", "httpx")],
    "terminal-in-cli-only": [("balancer.supervisor", "click"), ("healthcheck.monitor", "rich")],
    "rehearsal-below-cli": [("balancer.rehearsal", "balancer.cli.main")],
    "no-cycles": [("healthcheck.probing", "healthcheck.monitor")],
}
CASES = [(name, *pair) for name, pairs in VIOLATIONS.items() for pair in pairs]


@cache
def contracts() -> dict[str, Contract]:
    """The contracts as import-linter itself would make them, by id."""
    configuration = api.read_configuration(str(ROOT / "pyproject.toml"))
    made = {}
    for options in configuration["contracts_options"]:
        module = importlib.import_module(f"importlinter.contracts.{options['type']}")
        words = options["type"].title().replace("_", "")
        kind: type[Contract] = getattr(module, f"{words}Contract")
        made[options["id"]] = kind(options["name"], configuration["session_options"], options)
    return made


@cache
def real_graph() -> grimp.ImportGraph:
    return grimp.build_graph(*PACKAGES, include_external_packages=True, cache_dir=None)


def graph_with(importer: str, imported: str) -> grimp.ImportGraph:
    """The real imports and one more; what is not written yet is there, but empty."""
    graph = deepcopy(real_graph())
    for module in (importer, imported):
        if module not in graph.modules:
            graph.add_module(module, is_squashed=module.partition(".")[0] not in PACKAGES)
    graph.add_import(importer=importer, imported=imported)
    return graph


def test_every_contract_has_a_proof() -> None:
    assert set(contracts()) == set(VIOLATIONS)


@pytest.mark.parametrize("name", VIOLATIONS)
def test_the_real_imports_keep_the_contract(name: str) -> None:
    check = contracts()[name].check(graph=deepcopy(real_graph()), verbose=False)
    assert check.kept, f"'{name}' is broken; .venv/bin/lint-imports shows by which import"


@pytest.mark.parametrize(("name", "importer", "imported"), CASES)
def test_one_import_too_many_breaks_the_contract(name: str, importer: str, imported: str) -> None:
    check = contracts()[name].check(graph=graph_with(importer, imported), verbose=False)
    assert not check.kept, f"'{name}' lets {importer} import {imported}"


def test_a_stray_folder_breaks_the_layers() -> None:
    """The list of layers is exhaustive: nothing can be put beside them unnoticed."""
    graph = deepcopy(real_graph())
    graph.add_module("balancer.utils")
    assert not contracts()["layers"].check(graph=graph, verbose=False).kept


def test_lint_imports_itself_fails_on_a_copy_with_a_violation(tmp_path: Path) -> None:
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "balancer" / "core" / "backend.py").open("a") as module:
        module.write("\nimport trio\n")
    command = Path(sys.executable).with_name("lint-imports")
    ran = subprocess.run(
        [command, "--no-cache", "--no-logo", "--contract", "core-is-pure"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    assert "balancer.core.backend -> trio" in ran.stdout


@pytest.mark.parametrize("heavy", ["trio", "httpx", "pydantic", "asyncio", "rich", "structlog"])
def test_the_command_line_loads_without(heavy: str) -> None:
    """What `balancer --help` imports is what an operator waits for."""
    assert heavy not in loaded_by("import balancer.cli.main")


@pytest.mark.parametrize(
    "heavy",
    [
        "balancer.config",
        "balancer.supervisor",
        "balancer.admin",
        "healthcheck.monitor",
        "healthcheck.probing",
        "asyncio",
        "click",
        "httpcore",
        "httpx",
        "prometheus_client",
        "pydantic",
        "pygments",
        "rich",
        "structlog",
        "tomllib",
    ],
)
def test_a_worker_starts_without(heavy: str) -> None:
    """What a worker imports is what clients wait for when it replaces another, and its memory."""
    assert heavy not in loaded_by("import balancer.worker.process")


def test_a_worker_has_all_it_needs_for_its_log_before_its_files_may_be_gone() -> None:
    program = """
import sys, trio
from balancer.worker.lines import FileLines
from balancer.worker.messages import LogPlan
async def main():
    lines = FileLines()
    lines.obey(LogPlan("off", access_json=True, json=True, colours=False, level="info"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lines.run)
        with trio.move_on_after(10):
            while "balancer.telemetry.log_lines" not in sys.modules:
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
trio.run(main)
"""
    assert {"structlog", "balancer.telemetry.log_lines"} <= loaded_by(program)


@cache
def loaded_by(program: str) -> frozenset[str]:
    """The modules that are there after `program` has run in an interpreter of its own."""
    ran = subprocess.run(
        [sys.executable, "-c", f"{program}\nimport sys\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return frozenset(ran.stdout.split())
