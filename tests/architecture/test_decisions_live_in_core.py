"""Whoever is outside a core may carry a status, a failure or a state, but not decide by it.

A decision is a comparison or a `match`. Outside `core`, a table (`SHOWN[health]`) or a question to
the value itself (`view.available`, `failure.spares_backend`) does what is needed.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.our_sources import modules, tree

# Enums by whose members only a core may decide.
DECIDING = {"Health", "AdminState", "Failure", "Evidence", "Outcome"}
# Names that hold such a member, or its word in JSON.
HOLDERS = {"health", "admin", "admin_state", "failure", "evidence", "outcome"}
STATUSES = {"status", "status_code"}


def shell() -> list[Path]:
    """The modules outside of a core. A rehearsal plays the world, so it may decide what it does."""
    return [p for p in modules() if "core" not in p.parts and "rehearsal" not in p.parts]


def last_name(node: ast.expr) -> str | None:
    """`status` for `status`, `reply.status` and `row["status"]`."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Subscript(slice=ast.Constant(value=str(name))):
            return name
        case _:
            return None


def is_member(node: ast.AST) -> bool:
    """`Health.HEALTHY`, or `verdict.Health.HEALTHY`; not the class itself."""
    return isinstance(node, ast.Attribute) and last_name(node.value) in DECIDING


def holds_constant(node: ast.expr, kind: type[int] | type[str]) -> bool:
    """A constant of that kind, or a tuple, list, set or range of them; HTTPStatus counts as int."""
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, kind):
            return not isinstance(part.value, bool)
        if (
            kind is int
            and isinstance(part, ast.Attribute)
            and last_name(part.value) == "HTTPStatus"
        ):
            return True
    return False


def decisions(module: ast.Module) -> Iterator[tuple[int, str]]:
    """The line and the text of each comparison or case that decides by one of our words."""
    for node in ast.walk(module):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            if isinstance(node.ops[0], ast.In | ast.NotIn):
                sides[1:] = [side for side in sides[1:] if last_name(side) not in HOLDERS]
            names = {last_name(side) for side in sides}
            if (
                any(is_member(part) for side in sides for part in ast.walk(side))
                or (names & STATUSES and any(holds_constant(side, int) for side in sides))
                or (names & HOLDERS and any(says_a_word(side) for side in sides))
            ):
                yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.Match):
            yield from matched(node)


def says_a_word(side: ast.expr) -> bool:
    """A string constant that is not itself the key of a subscript (`row["health"]`)."""
    return not isinstance(side, ast.Subscript) and holds_constant(side, str)


def matched(node: ast.Match) -> Iterator[tuple[int, str]]:
    subject = last_name(node.subject)
    for case in node.cases:
        for part in ast.walk(case.pattern):
            if isinstance(part, ast.MatchValue) and (
                is_member(part.value) or subject in STATUSES | HOLDERS
            ):
                yield part.value.lineno, f"case {ast.unparse(part)}"


@pytest.mark.parametrize(
    "code",
    [
        "if view.health is Health.HEALTHY: pass",
        "x = outcome == Outcome.PASS",
        "if state in (AdminState.READY, AdminState.DRAINING): pass",
        "if 500 <= reply.status < 600: pass",
        "if status == 200: pass",
        "if status_code in {502, 503}: pass",
        "if status == HTTPStatus.OK: pass",
        "if row['health'] == 'healthy': pass",
        "match verdict.outcome:\n    case Outcome.PASS: pass",
        "match status:\n    case 200: pass",
    ],
)
def test_a_decision_is_seen(code: str) -> None:
    assert list(decisions(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        "SHOWN[view.health]",
        "if view.available: pass",
        "if now >= deadline: pass",
        "if row['health'] == other['health']: pass",
        "if limits.status is None: pass",
        "report(Evidence.IGNORED, 'the client left')",
        "if status in settings.statuses: pass",
        "if 'path' in health: pass",
    ],
)
def test_what_is_no_decision_is_left_alone(code: str) -> None:
    assert not list(decisions(ast.parse(code)))


@pytest.mark.parametrize("path", shell(), ids=str)
def test_no_decision_outside_of_core(path: Path) -> None:
    found = [
        f"{path}:{line}: `{text}`: move the decision into a core"
        for line, text in decisions(tree(path))
    ]
    assert not found, "\n".join(found)
