"""Users' code that fails is one line with the file and line of that code, and runs as it stands after an edit."""

import itertools
import pathlib
import re

import pytest

from kernels import blame
from kernels.errors import InputError
from sim.cli import main
from sim.serving.plugin import compile_function, find

HEAD = """from sim.serving.plugin import Option
OPTIONS = {"max_token": Option(512, "tokens a step"), "max_seq": Option(4, "sequences")}
"""
RUN = ["simulate", "--quiet", "--model", "gpt2", "--system", "a100_sxm", "--requests", "batch:n=2,prompt=4,output=2"]
NUMBER = itertools.count()


def write(folder: pathlib.Path, text: str) -> str:
    path = folder / f"mine_{next(NUMBER)}.py"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("def plan(:", 1, "cannot be read as a policy"),
        ("x = 1\nraise ValueError('no')", 2, "ValueError: no"),
        ("import sys\nsys.exit(0)", 2, r"calls sys.exit\(0\)"),
        ("import no_such_module_of_mine", 1, "ModuleNotFoundError"),
        ("def f():\n    return f()\nf()", 2, "RecursionError"),
        ("\0", None, "null bytes"),
        (HEAD + "def plan(r, s):\n    return 0", 3, "the engine calls it with 1 argument"),
        (HEAD + "def plan():\n    return 0", 3, "the engine calls it with 1 argument"),
        (HEAD + "def plan(r):\n    yield 0", 3, "is a generator"),
        (HEAD + "async def plan(r):\n    return 0", 3, "a coroutine"),
        (HEAD + "plan = 3", 3, "is no plain function"),
        ("OPTIONS = 3\ndef plan(r):\n    return 0", 1, "not a dictionary of Option"),
        ("\nOPTIONS = {'max_token': 3}\ndef plan(r):\n    return 0", 2, "a name and an Option"),
        (HEAD + "OPTIONS['x'] = Option('a', 'h')\ndef plan(r):\n    return 0", 2, "default"),
        (HEAD + "OPTIONS['x'] = Option(0, 'h')\ndef plan(r):\n    return 0", 2, "out of range"),
        (HEAD + "OPTIONS['x'] = Option('z', 'h', choices=('a',))\ndef plan(r):\n    return 0", 2, "no such choice"),
        ("OPTIONS = {}\ndef plan(r):\n    return 0", 1, "max_seq and max_token"),
    ],
)
def test_a_file_that_is_no_policy(tmp_path: pathlib.Path, text: str, line: int | None, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InputError, match=message) as found:
        find("policy", path)
    assert (str(found.value.file), found.value.line) == (path, line)
    assert "\n" not in str(found.value)
    assert not list(tmp_path.rglob("__pycache__"))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return nothing_there", "nothing_there"),
        ("return r.seq.nothing()", "Unknown attribute 'nothing'"),
        ("return 'a'", "No conversion"),
        ("return r + 1", "No implementation of function"),
    ],
)
def test_what_numba_cannot_compile(tmp_path: pathlib.Path, body: str, message: str) -> None:
    path = write(tmp_path, HEAD + f"def plan(r):\n    {body}\n")
    with pytest.raises(InputError, match=f"numba cannot compile this policy: .*{message}") as found:
        compile_function(find("policy", path))
    assert (str(found.value.file), found.value.line) == (path, 4)
    path = write(tmp_path, HEAD + "def plan(r):\n    raise ValueError\n")
    with pytest.raises(InputError, match="returns none, not a whole number"):
        compile_function(find("policy", path))
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize(
    "statement", ["if r is not None: raise ValueError('boom')", "import sys; sys.exit(0)", "[][0]", "1 // None"]
)
def test_an_error_while_it_runs(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], compiled: bool, statement: str
) -> None:
    if compiled and "raise" not in statement:
        pytest.skip("does not compile")
    path = write(tmp_path, f"COMPILED = {compiled}\n" + HEAD + f"def plan(r):\n    {statement}\n    return 0\n")
    assert main([*RUN, "--policy", path]) == 2
    said = capsys.readouterr().err
    assert re.fullmatch(rf"ridgeline: {re.escape(path)}:5: .+\n", said)


def test_a_router_that_names_no_number(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    for answer in ("None", "'a'", "True", "1.5"):
        path = write(tmp_path, f"COMPILED = False\ndef route(fleet, request):\n    return {answer}\n")
        assert main([*RUN, "--dp", "2", "--router", path]) == 2
        assert f"{path}:2: route = {answer}: names a replica by its number" in capsys.readouterr().err


def test_an_option_given_twice() -> None:
    with pytest.raises(InputError, match="option max_token is given twice"):
        find("policy", "sarathi:max_token=1,max_token=2")


def test_a_file_edited_within_the_process_runs_as_edited(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "mine.py"
    for answer in (1, 2, 1):  # of one length, within one second
        path.write_text(HEAD + f"def plan(r):\n    return {answer}\n")
        plugin = find("policy", str(path))
        assert plugin.function(None) == answer  # type: ignore[arg-type]
        assert compile_function(plugin).py_func(None) == answer  # type: ignore[attr-defined]


def test_a_helper_edited_within_the_process_runs_as_edited(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    below, helper, path = tmp_path / "below_of_mine.py", tmp_path / "helper_of_mine.py", tmp_path / "mine.py"
    helper.write_text("from below_of_mine import NUMBER\n\n\ndef number():\n    return NUMBER\n")
    path.write_text(
        "import helper_of_mine\nfrom kernels.jit import njit\n" + HEAD
        + "number = njit(helper_of_mine.number)\ndef plan(r):\n    return number()\n"
    )  # fmt: skip
    met = []
    for answer in (3, 4, 3):
        below.write_text(f"NUMBER = {answer}\n")
        plugin = find("policy", str(path))
        assert plugin.module.number() == answer
        met.append(compile_function(plugin))
    assert met[0] is not met[1]
    assert not list(tmp_path.rglob("__pycache__"))


def test_blame_is_for_users_code_alone() -> None:
    with pytest.raises(InputError) as found:
        find("policy", "sarati")
    assert blame.blame(found.value) is None


def test_a_schedule_of_ones_own_that_fails(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    for body, line in (("return [][1]", 2), ("import sys; sys.exit()", 2), ("return 1 / 0", 2)):
        path = write(tmp_path, f"def order(num_rank, num_microbatch):\n    {body}\n")
        assert main(["schedule", path, "--stages", "2", "--microbatches", "2"]) == 2
        assert f"ridgeline: {path}:{line}: " in capsys.readouterr().err
