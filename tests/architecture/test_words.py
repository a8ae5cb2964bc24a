"""The dictionary of the house is executable: one word for one thing, in every identifier."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.our_sources import modules, tree

# We do not say -> we say. A word is judged wherever it stands in a name that we give.
WE_SAY = {
    "endpoint": "backend",
    "node": "backend, or instance",
    "cluster": "pool",
    "frontend": "listener",
    "vhost": "route",
    "blacklist": "eject",
    "whitelist": "allow",
    "outstanding": "in_flight",
    "healthcheck": "probe",
    "heartbeat": "probe",
}
# These are wrong only as the last word of a name: `upstream_connection` is fine, `upstream` is not.
WE_SAY_LAST = {
    "upstream": "pool, or backend (upstream is an adjective)",
    "downstream": "client (downstream is an adjective)",
    "server": "backend, or listener",
    "manager": "what it does",
    "handler": "what it does",
    "helper": "what it does",
    "utils": "what it does",
    "util": "what it does",
}
MODULES_NEVER = {"utils", "util", "common", "helpers", "manager", "handler", "base", "misc", "lib"}

# Where a word means something else, and is right.
EXCEPT = {
    ("balancer/admin/server.py", "server"),  # it is one: the admin API's
    ("balancer/rehearsal", "endpoint"),  # the two ends of a TCP connection
    ("balancer/config/locate.py", "node"),  # of a syntax tree
}


def names_given(path: Path) -> Iterator[tuple[int, str]]:
    """Every name that the module gives: functions, classes, arguments, variables, attributes."""
    yield 1, path.stem
    for node in ast.walk(tree(path)):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.lineno, node.name
            case ast.arg():
                yield node.lineno, node.arg
            case ast.Name(ctx=ast.Store()):
                yield node.lineno, node.id
            case ast.Attribute(ctx=ast.Store()):
                yield node.lineno, node.attr
            case _:
                pass


def words(name: str) -> list[str]:
    """`BackendView` and `backend_views` are both `backend`, `view`: plurals count as singulars."""
    split = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower().split("_")
    return [re.sub(r"(?<=[^s])s$", "", word) for word in split if word]


def strangers(name: str) -> dict[str, str]:
    said = words(name)
    wrong = {word: WE_SAY[word] for word in said if word in WE_SAY}
    if said and said[-1] in WE_SAY_LAST:
        wrong[said[-1]] = WE_SAY_LAST[said[-1]]
    return wrong


def excepted(path: Path, word: str) -> bool:
    return any(str(path).startswith(place) and word == allowed for place, allowed in EXCEPT)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("pick_node", {"node"}),
        ("BackendEndpoints", {"endpoint"}),
        ("upstream", {"upstream"}),
        ("upstream_connections", set()),
        ("server_hostname", set()),
        ("ConfigManager", {"manager"}),
        ("address", set()),
        ("frontends", {"frontend"}),
    ],
)
def test_the_dictionary_knows_a_stranger(name: str, wrong: set[str]) -> None:
    assert set(strangers(name)) == wrong


@pytest.mark.parametrize("path", modules(), ids=str)
def test_names_come_from_the_dictionary(path: Path) -> None:
    wrong = [
        f"{path}:{line}: `{name}`: not {word}; we say: {better}"
        for line, name in names_given(path)
        for word, better in strangers(name).items()
        if not excepted(path, word)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", modules(), ids=str)
def test_a_module_is_named_for_what_it_holds(path: Path) -> None:
    assert path.stem not in MODULES_NEVER, f"{path}: name it for what it holds"
