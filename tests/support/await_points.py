"""Every place where the data path may be left and gone on with, found in its source, with a hook there.

A point is an `await`, the entry or the end of an `async with`, a turn of an `async for`, a `yield` or
a `yield from`. It is named by file, function and words, so that its name outlives what is written
above it. `instrumented` swaps the code of all functions that have points for the same code with a
call of the probe before and behind each of them; whatever counts them therefore sees them.
"""

import ast
import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FunctionType

import balancer

ROOT = Path(balancer.__file__).parent
# Where bytes of clients and backends pass.
DATA_PATH = ("proxy", "wire")
PROBE = "__probe__"


def sources() -> list[Path]:
    """The modules of the data path."""
    return sorted(path for folder in DATA_PATH for path in (ROOT / folder).rglob("*.py"))


def points() -> list[str]:
    """The names of all points."""
    return [name for path in sources() for name in _rewritten(path)[1]]


@contextmanager
def instrumented(probe: object) -> Iterator[None]:
    """Have every point call `probe`; all modules of the data path must have been imported."""
    fresh = {key: code for path in sources() for key, code in _codes_of(path).items()}
    swapped: list[tuple[FunctionType, CodeType]] = []
    for function in _functions():
        code = fresh.get(_key(function.__code__))
        if code is not None:
            swapped.append((function, function.__code__))
            function.__code__ = code
            function.__globals__[PROBE] = probe
    try:
        yield
    finally:
        for function, code in swapped:
            function.__code__ = code


def _functions() -> list[FunctionType]:
    return [thing for thing in gc.get_objects() if type(thing) is FunctionType]


def _key(code: CodeType) -> tuple[str, str, int]:
    return code.co_filename, code.co_qualname, code.co_firstlineno


def _codes_of(path: Path) -> dict[tuple[str, str, int], CodeType]:
    """The code of each function of a module, with the hooks in it."""
    tree, names = _rewritten(path)
    found: dict[tuple[str, str, int], CodeType] = {}
    left = [compile(tree, str(path), "exec", dont_inherit=True)] if names else []
    while left:
        code = left.pop()
        found[_key(code)] = code
        left += [const for const in code.co_consts if isinstance(const, CodeType)]
    return found


def _rewritten(path: Path) -> tuple[ast.Module, list[str]]:
    rewriter = _Rewriter(path.relative_to(ROOT).as_posix())
    tree = rewriter.visit(ast.parse(path.read_text()))
    return ast.fix_missing_locations(tree), rewriter.names


class _Rewriter(ast.NodeTransformer):
    """Puts the hooks in: `await x` becomes `await probe.awaited(name, x)`, and the like."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._scopes: list[str] = []
        self._seen: Counter[str] = Counter()
        self.names: list[str] = []

    # ---- where we are

    def _inside(self, node: ast.AST, name: str) -> ast.AST:
        self._scopes.append(name)
        try:
            return self.generic_visit(node)
        finally:
            self._scopes.pop()

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._inside(node, node.name)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._inside(node, node.name)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._inside(node, node.name)

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        assert not node.is_async, f"{self._file}: write it as a loop, or teach the harness"
        return self.generic_visit(node)

    def _named(self, verb: str, what: ast.expr | None) -> ast.Constant:
        if isinstance(what, ast.Call):
            what = what.func
        words = f"{verb} {ast.unparse(what) if what is not None else 'None'}"
        name = f"{self._file}:{'.'.join(self._scopes)} {words}"
        self._seen[name] += 1
        if self._seen[name] > 1:
            name = f"{name} #{self._seen[name]}"
        self.names.append(name)
        return ast.Constant(name)

    # ---- await and yield from: what they give is bound before anything can go wrong behind them;
    # ---- where it is returned, what is behind it is behind the caller's await

    def _begun(self, node: ast.Await | ast.YieldFrom) -> ast.Constant:
        is_await = isinstance(node, ast.Await)
        name = self._named("await" if is_await else "yield from", node.value)
        inner = self.visit(node.value)
        node.value = _call("awaited" if is_await else "delegated", name, inner)
        return name

    def visit_Await(self, node: ast.Await) -> ast.AST:
        return _call("past", self._begun(node), node)

    def visit_YieldFrom(self, node: ast.YieldFrom) -> ast.AST:
        return _call("past", self._begun(node), node)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> ast.AST:
        if not isinstance(node.value, ast.Await | ast.YieldFrom):
            return self.generic_visit(node)
        return _call("past", self._begun(node.value), node)

    def _bound(self, node: ast.Assign | ast.AnnAssign | ast.Expr) -> ast.AST | list[ast.stmt]:
        if not isinstance(node.value, ast.Await | ast.YieldFrom):
            return self.generic_visit(node)
        return [node, ast.Expr(_call("past", self._begun(node.value)))]

    def visit_Return(self, node: ast.Return) -> ast.AST:
        if not isinstance(node.value, ast.Await | ast.YieldFrom):
            return self.generic_visit(node)
        self._begun(node.value)
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.AST | list[ast.stmt]:
        return self._bound(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | list[ast.stmt]:
        return self._bound(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST | list[ast.stmt]:
        return self._bound(node)

    # ---- the others

    def visit_Yield(self, node: ast.Yield) -> ast.AST:
        name = self._named("yield", node.value)
        value = ast.Constant(None) if node.value is None else self.visit(node.value)
        node.value = _call("yielding", name, value)
        return _call("past", name, node)

    def visit_AsyncWith(self, node: ast.AsyncWith) -> ast.AST:
        for item in node.items:
            enter = self._named("enter", item.context_expr)
            leave = self._named("leave", item.context_expr)
            item.context_expr = _call("within", enter, leave, self.visit(item.context_expr))
        node.body = [child for line in node.body for child in _listed(self.visit(line))]
        return node

    def visit_AsyncFor(self, node: ast.AsyncFor) -> ast.AST:
        name = self._named("next of", node.iter)
        self.generic_visit(node)
        node.iter = _call("each", name, node.iter)
        return node


def _listed(lines: ast.stmt | list[ast.stmt]) -> list[ast.stmt]:
    return lines if isinstance(lines, list) else [lines]


def _call(method: str, *arguments: ast.expr) -> ast.Call:
    probe = ast.Attribute(ast.Name(PROBE, ast.Load()), method, ast.Load())
    return ast.Call(probe, list(arguments), [])
