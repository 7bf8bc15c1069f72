"""Studies found, run and timed: what `ridgeline study` and `ridgeline.study` do.

A study is a file with `CLAIM`, `run(...) -> DataFrame` and `plot(DataFrame) -> Figure`; its parameters are the keyword
arguments of `run`. `SMALL` (a dict of them) makes a quick pass. It is found by name in `studies/` or by path.
"""

import ast
import hashlib
import importlib
import importlib.util
import inspect
import pathlib
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, get_args, get_origin

import pandas as pd

from kernels import blame
from kernels.errors import InputError
from sim.record.export import check_picture, write_picture
from sim.run.stop import keeping
from workloads.files import read_byte

COLUMNS = (
    "system", "claim", "setup", "paper", "simulated", "error", "bound", "verdict", "kind", "assumptions", "seconds",
)  # fmt: skip
"""Of the frame that a study returns (`studies/_verdict.py` says what each holds)."""


def folder() -> pathlib.Path:
    """Where the shipped studies are."""
    found = importlib.util.find_spec("studies")
    if found is None or not found.submodule_search_locations:
        raise InputError("the package of studies is not installed", field="studies", value="studies")
    return pathlib.Path(next(iter(found.submodule_search_locations)))


def names() -> list[str]:
    """The shipped studies, as the command names them."""
    return [path.stem.replace("_", "-") for path in sorted(folder().glob("[a-z]*.py"))]


def studies() -> pd.DataFrame:
    """`name, question, claim` of every shipped study, read from its text: nothing is imported."""
    rows = []
    for name in names():
        tree = ast.parse((folder() / f"{name.replace('-', '_')}.py").read_text("utf-8"))
        claim = next(
            (
                ast.literal_eval(node.value)
                for node in tree.body
                if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "CLAIM"
            ),
            "",
        )
        rows.append({"name": name, "question": (ast.get_docstring(tree) or "").split("\n")[0], "claim": claim})
    return pd.DataFrame(rows, columns=["name", "question", "claim"])


def find(study: str) -> ModuleType:
    """The study of this name, or in this file; `InputError` where there is none or a part of it is missing."""
    if study.endswith(".py") or "/" in study:
        module = _from_path(pathlib.Path(study))
    else:
        name = study.replace("-", "_")
        if study.replace("_", "-") not in names():
            raise InputError("no such study", field="study", value=study, allowed=[*names(), "a path"])
        module = importlib.import_module(f"studies.{name}")
    for part in ("CLAIM", "run", "plot"):
        if not hasattr(module, part):
            raise InputError("a study needs it (see studies/_template.py)", file=study, field=part, value="missing")
    return module


def _from_path(path: pathlib.Path) -> ModuleType:
    if not path.is_file():
        raise InputError("no such file", file=path, field="study", value=str(path))
    source = read_byte(path, blame.MAX_SOURCE_BYTE)
    # edited within a process: as edited
    module = ModuleType(f"ridgeline_study_{hashlib.sha256(source).hexdigest()[:16]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    try:
        blame.run_source(source, str(path), module, "study", is_bounded=False)
    except InputError:
        del sys.modules[module.__name__]
        raise
    return module


def parameters(module: ModuleType) -> dict[str, inspect.Parameter]:
    """The keyword arguments of a study's `run`."""
    found = inspect.signature(module.run).parameters
    for name, one in found.items():
        if one.default is inspect.Parameter.empty:
            raise InputError("a parameter of a study has a default", field=name, value=f"run({one})")
    return dict(found)


def convert(text: str, parameter: inspect.Parameter) -> Any:
    """An option's text as the parameter wants it: a number or text, a list with commas, anything deeper as Python
    writes it (`((8192, 4), (12288, 3))`).

    >>> convert("8, 16", inspect.Parameter("gpus", inspect.Parameter.KEYWORD_ONLY, annotation=tuple[int, ...]))
    (8, 16)
    """
    kind = parameter.annotation
    if kind is inspect.Parameter.empty:
        kind = type(parameter.default)
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if kind in (int, float, str):
            return kind(text)
        inner = get_args(kind)
        if get_origin(kind) is tuple and len(inner) == 2 and inner[1] is Ellipsis and inner[0] in (int, float, str):
            return tuple(inner[0](part.strip()) for part in text.split(",") if part.strip())
        return ast.literal_eval(text)
    except (KeyError, ValueError, SyntaxError):
        shown = getattr(kind, "__name__", str(kind)) if get_origin(kind) is None else str(kind)
        raise InputError("does not parse", field=parameter.name, value=text, allowed=shown) from None


def study(name: str, **given: Any) -> pd.DataFrame:
    """Run a study (by name or path) with these parameters of its `run`: its rows, with the seconds that it took.

    Raises `InputError` for a study, a parameter or a table that is none.
    """
    return run_module(find(name), **given)


def run_module(module: ModuleType, **given: Any) -> pd.DataFrame:
    """The same for a module that is found already."""
    known = parameters(module)
    for name, value in given.items():
        if name not in known:
            raise InputError("no such parameter of this study", field=name, value=value, allowed=list(known))
    begin = time.perf_counter()
    table = module.run(**given)
    if not isinstance(table, pd.DataFrame) or tuple(table.columns) != COLUMNS:
        shown = list(table.columns) if isinstance(table, pd.DataFrame) else type(table).__name__
        raise InputError("a study returns the columns of studies/_verdict.py", field="run", value=shown,
                         allowed=COLUMNS)  # fmt: skip
    return table.assign(seconds=round(time.perf_counter() - begin, 3))


def run_all(
    chosen: Sequence[str] = (), *, small: bool = False, progress: Callable[[int, int, str], None] | None = None,
    keep: Callable[[pd.DataFrame], None] | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Every shipped study (or those `chosen`), one after another: all rows, with a first column `study`. `small` takes
    each study's quick pass; `progress(done, number, name)` is called before each and at the end, `keep(rows)` with
    what there is after each. Ctrl-C leaves the studies that had ended (`attrs["stopped"]`), a study that fails leaves
    all others (`attrs["failed"]`: the reason by name); `attrs["complete"]` is False in either case. Raises what the
    first one raised where none is left."""
    every = list(chosen) or names()
    tables: list[pd.DataFrame] = []
    failed: dict[str, str] = {}
    first: Exception | None = None
    with keeping(tables) as work:
        for at, name in enumerate(every):
            if progress:
                progress(at, len(every), name)
            try:
                module = find(name)
                table = run_module(module, **(dict(getattr(module, "SMALL", {})) if small else {}))
            except Exception as error:  # one study of many
                failed[name], first = _reason(error), first or error
                continue
            table.insert(0, "study", name)
            tables.append(table)
            if keep:
                keep(_joined(tables, failed, stopped=True))
    if progress:
        progress(len(every), len(every), "")
    if first is not None and not tables:
        raise first
    return _joined(tables, failed, stopped=not work.complete)


def _joined(tables: Sequence[pd.DataFrame], failed: dict[str, str], *, stopped: bool) -> pd.DataFrame:
    rows = pd.concat(tables, ignore_index=True)
    rows.attrs.update(complete=not stopped and not failed, stopped=stopped, failed=dict(failed))
    return rows


def _reason(error: Exception) -> str:
    """What a study raised and where, in one line."""
    frames = traceback.extract_tb(error.__traceback__)
    own = next((one for one in reversed(frames) if pathlib.Path(one.filename).parent.name == "studies"), frames[-1])
    text = " ".join(str(error).split()) or "no reason given"
    return f"{pathlib.Path(own.filename).name}:{own.lineno}: {type(error).__name__}: {text}"


def save_plot(module: ModuleType, table: pd.DataFrame, path: str) -> None:
    """Draw the frame of a study; it runs nothing."""
    check_picture(path)
    import matplotlib as mpl

    mpl.use("Agg")
    write_picture(module.plot(table), path)
