"""What holds for every study: rows that can fail, pictures that draw their frame and run nothing."""

import ast
import inspect
import itertools
import json
import math
import pathlib
import re
import types

import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from sim.run import study
from sim.show.board import summary, text
from studies._verdict import TAG
from tests.goldens.study_golden import moved

NAMES = study.names()
ROOMS = ("studies", "sim", "hw_models", "workloads", "kernels")
TABLES: dict[str, pd.DataFrame] = {}
RATIO = re.compile(r"speed-?up|faster|over |gain|longer|headline", re.IGNORECASE)


def small(name: str) -> pd.DataFrame:
    """The rows of a study's quick pass, run once."""
    if name not in TABLES:
        module = study.find(name)
        TABLES[name] = study.run_module(module, **getattr(module, "SMALL", {}))
    return TABLES[name]


@pytest.mark.parametrize("name", NAMES)
def test_rows_keep_the_rules_of_verdicts(name: str) -> None:
    table = small(name)
    assert len(table)
    assert (table["seconds"] >= 0).all()
    for one in table.to_dict("records"):
        where = f"{one['system']}, {one['claim']}, {one['setup']}"
        assert one["verdict"] in ("reproduced", "not reproduced", "said"), where
        assert one["kind"] in ("number", "order", "fitted"), where
        assert math.isfinite(one["simulated"]), where
        if math.isnan(one["paper"]):  # a point of the picture
            assert (one["verdict"], one["kind"]) == ("said", "number"), where
            continue
        assert one["error"] == pytest.approx(one["simulated"] / one["paper"] - 1), where
        if one["verdict"] == "said":
            assert math.isnan(one["bound"]), where
            continue
        if one["kind"] == "order":
            assert (one["paper"], one["bound"]) == (1.0, 0.0), where
            assert (one["verdict"] == "reproduced") == (one["simulated"] == 1.0), where
            continue
        assert 0 < one["bound"] <= max(TAG.values()), where
        if abs(one["error"]) > one["bound"]:
            assert one["verdict"] == "not reproduced", where
        # an interval that reaches from nothing to the headline is no claim
        low, high = (one["paper"] * (1 + sign * one["bound"]) for sign in (-1, 1))
        assert low > 0, where
        if RATIO.search(one["claim"]) and abs(one["paper"] - 1) > 0.05:  # nearer, nothing is claimed to change
            assert not (low < 1 - 1e-12 and high > 1 + 1e-12), where


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_where_they_were(name: str) -> None:
    lines = moved(name, small(name))
    assert not lines, "\n".join([*lines, "if this is meant: python -m tests.goldens.study_golden"])


@pytest.mark.parametrize("name", NAMES)
def test_a_number_does_not_come_from_what_it_is_held_to(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all published values of a study a little larger, what it simulates is the same: none of them is an input."""
    table, module = small(name), study.find(name)
    judged = table[(table["kind"] == "number") & table["bound"].notna()].set_index(["system", "claim", "setup"])
    held = set(judged["paper"]) - set(table["paper"][table["kind"] == "fitted"])
    larger = {key: grown(value, held) for key, value in vars(module).items() if not key.startswith("__")}
    larger = {key: value for key, value in larger.items() if value is not vars(module)[key]}
    if not larger:
        return  # published values stand where the rows are made
    for key, value in larger.items():
        monkeypatch.setattr(module, key, value)
    forget(module)
    try:
        again = study.run_module(module, **getattr(module, "SMALL", {})).set_index(["system", "claim", "setup"])
    finally:
        forget(module)
    used = [key for key in judged.index if key in again.index and (name, key[0]) not in FITTED_BESIDE
            and again["simulated"][key] != pytest.approx(judged["simulated"][key], rel=1e-6)]  # fmt: skip
    assert not used


FITTED_BESIDE: set[tuple[str, str]] = {  # its rows of kind `fitted` are made of a number and a ratio
    ("magic-dec", "MagicDec"), ("magic-dec", "plain decoding"), ("magic-dec", "MagicDec, own draft"),
}  # fmt: skip


def grown(value: object, held: set[float]) -> object:
    """The same with 7 % more wherever one of `held` stands; the very same object where none does."""
    if isinstance(value, float):
        return value * 1.07 if value in held and value not in (0.0, 1.0) else value
    if type(value) is dict:
        new = {key: grown(one, held) for key, one in value.items()}
        return new if any(new[key] is not value[key] for key in value) else value
    if type(value) in (list, tuple):
        each = [grown(one, held) for one in value]
        return type(value)(each) if any(a is not b for a, b in zip(each, value, strict=True)) else value
    return value


def forget(module: types.ModuleType) -> None:
    """Empties the caches of a module's functions."""
    for function in vars(module).values():
        if hasattr(function, "cache_clear"):
            function.cache_clear()


@pytest.mark.parametrize("name", NAMES)
def test_a_sign_flip_is_a_row_of_its_own(name: str) -> None:
    table = small(name)
    ratio = table[(table["kind"] != "order") & (table["verdict"] == "not reproduced") & table["bound"].notna()]
    for one in ratio.to_dict("records"):
        # bounds that end at 1 were cut there: then the other side is a flip
        if (one["simulated"] - 1) * (one["paper"] - 1) < 0 and one["bound"] == pytest.approx(abs(1 - 1 / one["paper"])):
            flips = table[(table["claim"] == f"sign: {one['claim']}") & (table["setup"] == one["setup"])]
            assert flips["verdict"].tolist() == ["not reproduced"]


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_drawn_from_rows_that_come_from_a_file(name: str) -> None:
    rows = json.loads(small(name).to_json(orient="records"))
    figure = study.find(name).plot(pd.DataFrame(rows))
    axes = [axis for axis in figure.findobj(lambda artist: hasattr(artist, "has_data")) if axis.get_visible()]
    assert axes
    assert all(axis.has_data() for axis in axes)
    figure.canvas.draw()
    assert not faults(figure)


def faults(figure: Figure) -> list[str]:
    """Labels that the edge cuts or that lie on each other, axes that begin above nothing, curves that leave them."""
    found: list[str] = []
    pen, whole = figure.canvas.get_renderer(), figure.bbox.padded(2)
    title = figure._suptitle
    if title is not None and title.get_window_extent(pen).x1 > whole.x1:
        found.append(f"cut: {title.get_text()}")
    for axis in figure.axes:
        if not axis.get_visible():
            continue
        inside: list[Text] = [axis.title, axis._left_title, axis.xaxis.label, axis.yaxis.label]
        for line, (low, high) in ((axis.xaxis, sorted(axis.get_xlim())), (axis.yaxis, sorted(axis.get_ylim()))):
            every = [*line.get_major_ticks(), *line.get_minor_ticks()]
            ticks = [t.label1 for t in every if low <= t.get_loc() <= high and t.label1.get_text()
                     and t.label1.get_visible()]  # fmt: skip
            boxes = [t.get_window_extent(pen) for t in ticks if not t.get_rotation()]
            inside += ticks
            found += [f"{axis.get_title('left')}: labels on each other" for one, two in itertools.combinations(boxes, 2)
                      if one.overlaps(two)]  # fmt: skip
        for label in inside:
            box = label.get_window_extent(pen)
            if label.get_text() and not (whole.contains(*box.min) and whole.contains(*box.max)):
                found.append(f"cut: {label.get_text()}")
        low, high = sorted(axis.get_ylim())
        if axis.get_yscale() == "linear" and (low > 0 or axis.dataLim.ymax > high * (1 + 1e-6)):
            found.append(f"{axis.get_title('left')}: {low:g} to {high:g} for {axis.dataLim.ymax:g}")
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_runs_nothing(name: str) -> None:
    """Nothing that `plot` reaches is a function of the rooms below but `sim.show`, or one that `run` reaches too."""
    module = study.find(name)
    drawn, ran = reached(module, "plot"), reached(module, "run")
    ours = {key for key in drawn if not key.startswith("studies._panels.")}
    assert not {key for key in ours if key.startswith(("kernels.", "hw_models.", "workloads."))}
    assert not {key for key in ours if key.startswith("sim.") and not key.startswith("sim.show.")}
    assert not ours & ran


def reached(module: types.ModuleType, name: str) -> set[str]:
    """Qualified names of the functions that a function of this module calls, in the studies' own files all the way."""
    found: set[str] = set()
    todo = [(module, name)]
    while todo:
        home, key = todo.pop()
        function = inspect.unwrap(getattr(home, key))
        tree = ast.parse(inspect.getsource(function))
        scope = vars(inspect.getmodule(function))
        local: dict[str, object] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                imported = __import__(node.module, fromlist=["x"])
                local |= {alias.asname or alias.name: getattr(imported, alias.name, None) for alias in node.names}
        for node in ast.walk(tree):
            if not isinstance(node, ast.Name):
                continue
            value = local.get(node.id, scope.get(node.id))
            if not callable(value) or not hasattr(value, "__module__") or not hasattr(value, "__qualname__"):
                continue
            target = inspect.unwrap(value)
            if not inspect.isfunction(target):
                continue
            full = f"{target.__module__}.{target.__qualname__}"
            if full in found or target.__module__.split(".")[0] not in ROOMS:
                continue
            found.add(full)
            if target.__module__.startswith("studies."):
                todo.append((inspect.getmodule(target), target.__name__))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_is_an_option_with_a_default(name: str) -> None:
    module = study.find(name)
    known = study.parameters(module)
    assert set(getattr(module, "SMALL", {})) <= set(known)


def test_sources_hold_no_open_range_and_no_second_row() -> None:
    for path in pathlib.Path(study.folder()).glob("*.py"):
        source = path.read_text()
        assert not re.search(r"row\([^)]*\(\s*[01](\.0)?,", source), path  # a published "range" from the null
        assert "np.inf)" not in source or "Phase(np.inf" in source, path
        if path.name != "_verdict.py":
            assert not re.search(r"^def (row|holds|frame|order)\(", source, re.MULTILINE), path


def test_counts_add_up_and_notes_are_said_once() -> None:
    table = small("two-bp")
    counted = summary(table)
    assert counted["rows"].sum() == table["paper"].notna().sum()
    assert (counted["rows"] == counted["reproduced"] + counted["not_reproduced"] + counted["said"]).all()
    shown = text(table)
    assert shown.count("the baseline empties the allocator's cache") == 1
