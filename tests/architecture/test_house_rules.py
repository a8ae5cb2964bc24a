"""What every module, folder and document of this house has."""

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.architecture.our_sources import PACKAGES, ROOT, modules, texts, tree

LINES_MAX = 300  # a module of one idea is read in one sitting
THIS_FILE = Path(__file__).resolve().relative_to(ROOT)

# ---- modules -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", modules("balancer", "healthcheck", "scripts"), ids=str)
def test_a_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(tree(path)), f"{path} needs a docstring: what it decides and refuses"


@pytest.mark.parametrize("path", modules(), ids=str)
def test_a_module_can_be_read_in_one_sitting(path: Path) -> None:
    lines = len((ROOT / path).read_text(encoding="utf-8").splitlines())
    assert lines <= LINES_MAX, (
        f"{path} has {lines} lines; {LINES_MAX} are the most: split it by idea"
    )


# ---- documents ---------------------------------------------------------------------------------


def folders() -> list[Path]:
    found = {path.parent for path in modules(*PACKAGES)}
    return sorted(found | {Path("configs"), Path("scripts"), Path("tests")})


def readmes() -> list[Path]:
    return [path for path in texts() if path.suffix == ".md"]


@pytest.mark.parametrize("folder", folders(), ids=str)
def test_a_folder_tells_what_lives_there(folder: Path) -> None:
    readme = ROOT / folder / "README.md"
    assert readme.is_file(), f"{folder}/README.md is missing: what lives there, and what may not"
    assert len(readme.read_text(encoding="utf-8").split()) > 20, f"{folder}/README.md says nothing"


@pytest.mark.parametrize("path", readmes(), ids=str)
def test_links_lead_somewhere(path: Path) -> None:
    text = re.sub(r"```.*?```", "", (ROOT / path).read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    dead = [
        target
        for target in targets
        if "://" not in target and not (ROOT / path.parent / target).exists()
    ]
    assert not dead, f"{path} links to what is not there: {', '.join(dead)}"


def test_the_changelog_has_its_form() -> None:
    """Keep a Changelog: a section for each release, the unreleased one first, known kinds only."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    releases = re.findall(r"^## (.*)$", text, flags=re.MULTILINE)
    assert text.startswith("# Changelog\n")
    assert releases[0] == "[Unreleased]"
    assert all(
        re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", title) for title in releases[1:]
    )
    kinds = set(re.findall(r"^### (.*)$", text, flags=re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


STRANGE = {  # what -> why it must not stand in this repository
    re.escape(f"{ROOT}/"): "the folder of one checkout",
    re.escape(f"{Path.home()}/"): "the home of one person",
    r"\b[Ii]ssue #?\d+": "a number that readers cannot look up",
}


@pytest.mark.parametrize("pattern", STRANGE, ids=STRANGE.values())
def test_nothing_speaks_of_where_it_was_written(pattern: str) -> None:
    found = [
        f"{path}:{number}: {STRANGE[pattern]}: {line.strip()[:80]}"
        for path in texts()
        if path != THIS_FILE
        for number, line in enumerate((ROOT / path).read_text(encoding="utf-8").splitlines(), 1)
        if re.search(pattern, line)
    ]
    assert not found, "\n".join(found)


def test_nothing_that_installs_names_a_host_to_install_from() -> None:
    """Where packages come from is for the machine to say: a mirror must do as well."""
    places = [ROOT / "pyproject.toml", ROOT / ".ci" / "run", *(ROOT / "scripts").iterdir()]
    named = [
        f"{path.relative_to(ROOT)}: {url}"
        for path in places
        if path.is_file()
        for url in re.findall(r"https?://[^\s'\"`)]+", path.read_text(encoding="utf-8"))
        # A name without a dot is of a configuration beside it; the namespace of SVG is no place.
        if not re.match(
            r"https?://(127\.0\.0\.1|localhost|\{|\$|\[|[\w-]+[/;]|www\.w3\.org/2000/svg)", url
        )
    ]
    assert named == []


# ---- what is installed -------------------------------------------------------------------------

LOCKS = ["requirements.lock", "requirements-dev.lock", "requirements-bench.lock"]


def project() -> dict[str, list[Requirement]]:
    """What pyproject.toml asks for, by the lock that has to answer."""
    whole = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    groups = whole["dependency-groups"]
    return {
        "requirements.lock": [
            Requirement(line) for line in whole["project"]["dependencies"] + groups["build"]
        ],
        "requirements-dev.lock": [Requirement(line) for line in groups["dev"]],
        "requirements-bench.lock": [Requirement(line) for line in groups["bench"]],
    }


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_answers_pyproject(name: str) -> None:
    text = (ROOT / "scripts" / name).read_text(encoding="utf-8")
    pins = {
        pin: Version(version)
        for pin, version in re.findall(r"^([a-z0-9-]+)==(\S+)", text, flags=re.MULTILINE)
    }
    stale = [
        str(wanted)
        for wanted in project()[name]
        if wanted.name not in pins or pins[wanted.name] not in wanted.specifier
    ]
    assert not stale, f"scripts/{name} does not hold {', '.join(stale)}: run scripts/lock"


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_pins_by_hash_and_names_no_place(name: str) -> None:
    text = (ROOT / "scripts" / name).read_text(encoding="utf-8")
    for entry in re.split(r"\n(?=[a-z0-9])", text)[1:]:
        assert re.match(r"\S+==\S+", entry), f"not pinned: {entry.splitlines()[0]}"
        assert "--hash=sha256:" in entry, f"no hash: {entry.splitlines()[0]}"
    assert "://" not in text
    assert not re.search(r"^\s*-", text.replace("    --hash", ""), flags=re.MULTILINE)


@pytest.mark.parametrize("name", ["setup", "run", "test", "check", "lock", "bench", "../.ci/run"])
def test_a_script_can_be_started(name: str) -> None:
    path = ROOT / "scripts" / name
    assert os.access(path, os.X_OK), f"chmod +x {path.resolve().relative_to(ROOT)}"
    assert subprocess.run(["bash", "-n", path], check=False).returncode == 0


def test_the_wheel_says_that_it_is_typed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)
    assert not [name for name in names if name.startswith(("tests/", "scripts/"))]
