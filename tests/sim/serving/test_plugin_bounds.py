"""A policy or router that asks for what cannot be: one line with the file and line of that code, and no memory that is
not its own is touched."""

import pathlib

import pytest

from kernels import blame
from kernels.errors import InputError, PlanError
from kernels.jit import PLAIN
from sim.serving.limits import Limits
from tests.sim.serving.serving_case import flat_price, load, run

WRONG = {
    "prompt_token(e, 4)": "names a sequence that does not exist",
    "kv_token(e, -1)": "names a sequence that does not exist",
    "is_done(e, 1 << 40)": "names a sequence that does not exist",
    "wanted_token(e, -5)": "names a sequence that does not exist",
    "cached_token(e, 99)": "names a sequence that does not exist",
    "option(e, 12)": "asks for an option that does not exist",
    "running(e, num_running(e))": "looks beyond the ends of the running list",
    "running(e, -1)": "looks beyond the ends of the running list",
    "place_of(e, 3, 0)": "looks beyond the ends of the running list",
    "schedule_next(e, 0, 1)": "schedules a sequence twice in one plan",
    "schedule_next(e, 3, 1)": "schedules a sequence that is not in this running list",
    "schedule_next(e, 1 << 40, 1)": "names a sequence that does not exist",
    "schedule(e, -1, 1, 1, 0)": "names a sequence that does not exist",
    "schedule_idle(e, 3)": "schedules a sequence that is not in this running list",
    "preempt(e, 3)": "preempts a sequence that does not run",
    "preempt(e, -3)": "names a sequence that does not exist",
    "grow_or_preempt(e, 3, 1)": "asks for KV of a sequence that does not run in this lane",
    "grow_or_preempt(e, 0, -1)": "asks for KV of tokens below 0 or beyond the longest context",
    "grow_or_preempt(e, 0, 1 << 62)": "asks for KV of tokens below 0 or beyond the longest context",
    "admit(e, -1)": "admits with tokens below 0 or beyond the longest context",
    "admit(e, 1 << 62)": "admits with tokens below 0 or beyond the longest context",
    "e.work[1 << 40] = 7": "out of bounds",
    "e.seq[1 << 40].prompt = 7": "out of bounds",
    "forever(e)": "a loop that does not end",
}
BEFORE = {  # in place of scheduling the one that runs as it wants
    "schedule_next(e, i, 0)": "schedules other than 1 to wanted_token",
    "schedule_next(e, i, -7)": "schedules other than 1 to wanted_token",
    "schedule_next(e, i, 1000)": "schedules other than 1 to wanted_token",
    "schedule(e, i, 1, 1, 0)": "schedules with a role that the sequence is not in",
    "schedule(e, i, 9, 1, 0)": "schedules with a role that the sequence is not in",
    "schedule(e, i, 0, 1, -1)": "schedules padding that cannot be",
    "schedule(e, i, 0, 1, 1 << 62)": "schedules padding that cannot be",
    "schedule_idle(e, i)": "schedules a sequence as idle that is not done, or does not run",
}
HEAD = """from kernels.engine.verbs import *
from kernels.engine.verbs import schedule
from kernels.jit import njit
from sim.serving.plugin import Option

COMPILED = {compiled}
OPTIONS = {{"max_token": Option(64, "t"), "max_seq": Option(4, "s"), "what": Option(0, "wrong", low=0)}}


def forever(e):
    k = 0
    while k >= 0:
        k = 0


if COMPILED:
    forever = njit(forever)


def plan(e):
    what = option(e, 2)
    if num_running(e) == 0 and head(e) >= 0:
        admit(e, target_token(e, head(e)))
    if num_running(e) > 0:
        i = running(e, 0)
"""


def policy(compiled: bool) -> tuple[str, dict[str, tuple[int, int, str]]]:
    """A policy that does one wrong thing, by its option; and of each its number and line."""
    text, found = HEAD.format(compiled=compiled), {}
    for number, (words, message) in enumerate((BEFORE | WRONG).items(), 1):
        if words in WRONG and words == next(iter(WRONG)):
            text += "        if wanted_token(e, i) > 0 and grow_or_preempt(e, i, wanted_token(e, i)):\n"
            text += "            schedule_next(e, i, wanted_token(e, i))\n"
        text += f"        if what == {number}:\n            {words}\n"
        found[words] = (number, text.count("\n"), message)
    return text + "    return 0\n", found


def fault(path: str, router: str = "round_robin", replicas: int = 1) -> InputError:
    """What the run is refused with; the command line asks `blame` likewise."""
    requests = load([0, 400, 20_000, 30_000], [40] * 4, [9] * 4)
    try:
        run(requests, flat_price(), path, Limits(num_block=50, num_replica=replicas), router)
    except InputError as error:
        return error
    except (PlanError, IndexError) as error:
        return blame.blame(error) or InputError("in no line of theirs")
    raise AssertionError("it is served")


@pytest.mark.parametrize("compiled", [True, False])
def test_what_cannot_be_is_one_line(tmp_path: pathlib.Path, compiled: bool) -> None:
    path = tmp_path / "mine.py"
    text, wrong = policy(compiled)
    path.write_text(text)
    for words, (number, line, message) in wrong.items():
        if words.startswith("e.") and (PLAIN or not compiled):
            continue  # numpy's own check
        found = fault(f"{path}:what={number}")
        assert message in str(found), (words, found)
        assert found.file == str(path), (words, found)
        assert found.line == line or words == "forever(e)", (words, found)
        assert "\n" not in str(found)


NOWHERE = """from kernels.engine.verbs import *
from sim.serving.plugin import Option

COMPILED = {compiled}
OPTIONS = {{"max_token": Option(64, "t"), "max_seq": Option(4, "s"), "what": Option(0, "wrong", low=0)}}
HOLD = True


def plan(e):
    if option(e, 2) == 0:  # idle rows alone, once the shorter one is done
        while head(e) >= 0 and admit(e, target_token(e, head(e))) >= 0:
            pass
        for k in range(num_running(e)):
            i = running(e, k)
            if is_done(e, i):
                schedule_idle(e, i)
        for k in range(num_running(e)):
            i = running(e, k)
            if wanted_token(e, i) > 0 and (i == 0 or prefill_left(e, i) > 0):
                grow_or_preempt(e, i, wanted_token(e, i))
                schedule_next(e, i, wanted_token(e, i))
        return 0
    if num_running(e) > 0 and prefill_left(e, running(e, 0)) < 40:
        preempt(e, running(e, 0))
    if num_running(e) == 0 and head(e) >= 0:
        admit(e, target_token(e, head(e)))
    if num_running(e) > 0:
        schedule_next(e, running(e, 0), 1)
    return 0
"""


@pytest.mark.parametrize("compiled", [True, False])
def test_plans_that_get_nowhere(tmp_path: pathlib.Path, compiled: bool) -> None:
    path = tmp_path / "mine.py"
    path.write_text(NOWHERE.format(compiled=compiled))
    requests = load([0, 0], [40, 40], [2, 9])
    with pytest.raises(InputError, match=rf"{path}:9: plans more tokens .* idle sequences alone"):
        run(requests, flat_price(), str(path), Limits(num_block=50))
    if compiled and not PLAIN:  # a million plans
        with pytest.raises(InputError, match=rf"{path}:24: PlanError: has preempted one sequence a million times"):
            run(requests, flat_price(), f"{path}:what=1", Limits(num_block=50))


HELPER = """from kernels.jit import njit


@njit
def forever(x):
    while x >= 0:
        x = x * 1
    return x


@njit
def deep(x):
    return 1 + deep(x + 1) if x >= 0 else 0


@njit
def even(x):
    return odd(x - 1)


@njit
def odd(x):
    return even(x - 1) if x else 0


@njit
def beyond(e):
    e.work[1 << 40] = 7
    return 0
"""
CALLS = """import {helper}
from kernels.engine.verbs import *
from sim.serving.plugin import Option

COMPILED = {compiled}
OPTIONS = {{"max_token": Option(64, "t"), "max_seq": Option(4, "s")}}


def plan(e):
    return {helper}.{call}
"""


@pytest.mark.skipif(PLAIN, reason="of compiled code")
@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize(
    ("call", "line", "message"),
    [
        ("forever(1)", 6, "PlanError: a loop that does not end"),
        ("deep(0)", 11, "function = 'deep': calls itself, and compiled code has no end to that; allowed: a loop"),
        ("even(8)", 16, "function = 'even': calls itself"),
        ("beyond(e)", None, "IndexError: index is out of bounds"),
    ],
)
def test_what_a_file_imports_is_held_to_the_same(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, compiled: bool, call: str, line: int | None, message: str
) -> None:
    helper = f"helper_{tmp_path.name.lower()[-20:]}"
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / f"{helper}.py").write_text(HELPER)
    (tmp_path / "mine.py").write_text(CALLS.format(helper=helper, call=call, compiled=compiled))
    found = fault(str(tmp_path / "mine.py"))
    assert message in str(found)
    assert found.file == str(tmp_path / (f"{helper}.py" if line else "mine.py"))
    assert found.line == line or line in (6, None), found
    assert not list(tmp_path.rglob("*.pyc"))
