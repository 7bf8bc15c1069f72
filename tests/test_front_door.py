"""`import ridgeline`: light, documented, and loud where another package has taken the place of ours."""

import base64
import hashlib
import inspect
import pathlib
import subprocess
import sys
import venv
import zipfile

import pandas as pd
import pytest

import ridgeline

ROOT = pathlib.Path(ridgeline.__file__).parent
HEAVY = ("numba", "numpy", "pandas", "scipy", "networkx", "pydantic", "simpy")


def python(*words: str, executable: str = sys.executable, cwd: pathlib.Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([executable, *words], capture_output=True, text=True, cwd=cwd, check=False)


def test_the_import_loads_nothing_heavy() -> None:
    code = f"import sys, ridgeline; print([name for name in {HEAVY} if name in sys.modules])"
    done = python("-c", code)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_every_name_is_there_and_documented() -> None:
    for name in ridgeline.__all__:
        value = getattr(ridgeline, name)
        assert inspect.getdoc(value), name
        assert name in dir(ridgeline)
        if inspect.isfunction(value):
            assert name == "main" or f"{name}(" in (ridgeline.__doc__ or ""), name
    assert set(ridgeline._HOME) <= set(ridgeline.__all__)
    with pytest.raises(AttributeError, match="no attribute 'simulte'"):
        _ = ridgeline.simulte


def test_lists_and_runs_are_frames() -> None:
    for listing in (ridgeline.devices, ridgeline.models, ridgeline.policies, ridgeline.schedules, ridgeline.studies):
        frame = listing()
        assert isinstance(frame, pd.DataFrame)
        assert len(frame) > 4
    rows = ridgeline.study("two-bp", tokens=1024)
    assert {"paper", "simulated", "bound", "verdict", "kind"} <= set(rows.columns)
    best = ridgeline.plan("llama-2-7b", "dgx_a100", 8, 64, top=2)
    assert best["step_s"].is_monotonic_increasing or "replayed_s" in best.columns
    with pytest.raises(ridgeline.InputError, match="no such comparison"):
        ridgeline.validate("opps", "nowhere")


def wheel(folder: pathlib.Path, name: str, files: dict[str, str]) -> pathlib.Path:
    """A pure wheel with these files and its record."""
    info = f"{name}-1.0.dist-info"
    content = files | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for path, text in content.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(text.encode())}\n"
    made = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(made, "w") as archive:
        for path, text in (content | {f"{info}/RECORD": record + f"{info}/RECORD,,\n"}).items():
            archive.writestr(path, text)
    return made


@pytest.fixture
def wheels(tmp_path: pathlib.Path) -> dict[str, pathlib.Path]:
    """Ridgeline's door over packages of one line, and a stranger that has a `kernels` too."""
    ours = {f"{name}/__init__.py": f'"""Ridgeline\'s {name}."""\n' for name in ridgeline.PACKAGES}
    return {
        "ridgeline": wheel(tmp_path, "ridgeline", ours | {"ridgeline.py": (ROOT / "ridgeline.py").read_text()}),
        "stranger": wheel(tmp_path, "stranger", {"kernels/__init__.py": "ANSWER = 42\n"}),
    }


def install(folder: pathlib.Path, *made: pathlib.Path) -> str:
    """A fresh environment with these wheels, one after another; its Python."""
    if python("-m", "pip", "--version").returncode:
        pytest.skip("needs pip")
    venv.create(folder, with_pip=False)
    executable = str(folder / "bin" / "python")
    for one in made:
        options = ("--no-index", "--no-deps", "--no-compile", "-q")
        done = python("-m", "pip", "--python", executable, "install", *options, str(one))
        assert done.returncode == 0, done.stderr
    return executable


def test_as_a_module_it_is_the_command() -> None:
    done = python("-m", "ridgeline", "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("usage: ridgeline ")


def test_alone_it_says_nothing(tmp_path: pathlib.Path, wheels: dict[str, pathlib.Path]) -> None:
    executable = install(tmp_path / "alone", wheels["ridgeline"])
    assert python("-c", "import ridgeline", executable=executable, cwd=tmp_path).stderr == ""


@pytest.mark.parametrize(
    ("order", "said"),
    [
        (("stranger", "ridgeline"), "Ridgeline has replaced stranger's kernels/__init__.py: stranger is broken here"),
        (("ridgeline", "stranger"), "stranger has replaced Ridgeline's kernels/__init__.py"),
    ],
)
def test_two_packages_of_one_name_are_said_in_one_line(
    tmp_path: pathlib.Path, wheels: dict[str, pathlib.Path], order: tuple[str, str], said: str
) -> None:
    executable = install(tmp_path / "both", *(wheels[name] for name in order))
    done = python("-c", "import ridgeline", executable=executable, cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr.count("\n") == 1
    assert said in done.stderr
    assert "in an environment of its own" in done.stderr
    if order[0] == "ridgeline":  # what it needs is gone: the command does not start
        code = "import sys, ridgeline; sys.exit(ridgeline.main())"
        assert python("-c", code, executable=executable, cwd=tmp_path).returncode == 2


def test_a_kernels_that_is_found_first_is_named(tmp_path: pathlib.Path) -> None:
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "__init__.py").write_text("")
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; import ridgeline"
    done = python("-c", code, cwd=tmp_path)
    assert f"`import kernels` finds {tmp_path}/kernels/__init__.py, which is not Ridgeline's" in done.stderr
