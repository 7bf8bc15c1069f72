"""An end to every loop of a user's file: one that goes round too often raises, with its line, in compiled code too."""

import ast
from typing import Any

from kernels.errors import PlanError

MOST = 1 << 26  # turns of the loops of one call of a function: below a second of compiled code
MOST_OF_A_STEP = 1 << 20  # where the call is one of thousands and is plain Python
_COUNT, _MOST, _ERROR = "_ridgeline_turn", "_ridgeline_most", "_ridgeline_error"


def bounded(source: bytes, path: str, names: dict[str, Any]) -> ast.Module:
    """The file with its loops counted; `names` is where it will run. Raises what Python does for a file that is none.

    >>> names = {}
    >>> tree = bounded(b"def count(n):\\n    while n > 0:\\n        n += 1\\n", "mine.py", names)
    >>> exec(compile(tree, "mine.py", "exec"), names)
    >>> set_most(names, 1000)
    >>> names["count"](3)
    Traceback (most recent call last):
    ...
    kernels.errors.PlanError: a loop that does not end
    """
    names[_MOST], names[_ERROR] = MOST, PlanError
    return ast.fix_missing_locations(_Counted().scope(ast.parse(source, path)))


def set_most(names: dict[str, Any], most: int) -> None:
    """How often the loops of one call may go round, in plain Python from now on (compiled code keeps what it has)."""
    names[_MOST] = most


def is_bounded(names: dict[str, Any]) -> bool:
    """Whether the file that ran in `names` has its loops counted."""
    return _MOST in names


class _Counted(ast.NodeTransformer):
    def __init__(self) -> None:
        self.has_loop = False

    def scope(self, node: Any) -> Any:
        """A module, class or function: a counter where it has loops of its own."""
        outside, self.has_loop = self.has_loop, False
        self.generic_visit(node)
        if self.has_loop:
            first = node.body[0]
            at = int(isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant))  # behind the docstring
            while at < len(node.body) and isinstance(node.body[at], ast.ImportFrom) and not node.body[at].level:
                at += 1  # and what is from __future__
            node.body[at:at] = [_here(each, first) for each in ast.parse(f"{_COUNT} = 0").body]
        self.has_loop = outside
        return node

    def loop(self, node: Any) -> Any:
        """A turn is counted as it begins."""
        self.generic_visit(node)
        if isinstance(node, ast.For) and _is_parallel(node.iter):  # it ends, and what is parallel cannot raise
            return node
        self.has_loop = True
        text = f"{_COUNT} += 1\nif {_COUNT} > {_MOST}:\n    raise {_ERROR}('a loop that does not end')"
        node.body[:0] = [_here(each, node) for each in ast.parse(text).body]
        return node

    def visit(self, node: ast.AST) -> Any:
        """By what it is."""
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            return self.scope(node)
        if isinstance(node, ast.For | ast.AsyncFor | ast.While):
            return self.loop(node)
        return self.generic_visit(node)


def _is_parallel(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "prange"


def _here(new: ast.stmt, place: ast.stmt) -> ast.stmt:
    """The statement and its parts, as if they stood at `place`."""
    for part in ast.walk(new):
        ast.copy_location(part, place)
    return new
