"""What a verb does not need it does not load: modules, not milliseconds, are what is asserted."""

import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
WATCHED = (
    "numpy", "numba", "pandas", "pyarrow", "networkx", "scipy.linalg", "scipy.special", "simpy", "pydantic_core",
    "pydantic", "matplotlib", "torch",
)  # fmt: skip
SMALL = "--model gpt2 --fidelity sol --requests poisson:rate=9,n=9,prompt=lognormal:mean=64:max=200,output=4"


def loaded(code: str) -> set[str]:
    """Which of the watched modules a fresh process has loaded after `code`."""
    tail = f"\nimport json, sys\nprint(json.dumps([name for name in {WATCHED!r} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code + tail], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def verb(words: str) -> str:
    return f"""
import contextlib, io
from sim.cli import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    assert main({words.split()!r}) == 0"""


@pytest.mark.parametrize("words", ["--help", "simulate --help", "train --help", "study --help"])
def test_help_loads_nothing(words: str) -> None:
    assert loaded(verb(words)) == set()


def test_the_list_of_verbs_makes_no_scenario() -> None:
    """Each verb's file, what parses its options, and little else: a fifth of a second is the Python that starts."""
    code = verb("--help") + "\nimport sys\nassert 'sim.run.scenario' not in sys.modules\nassert len(sys.modules) < 200"
    loaded(code)


@pytest.mark.parametrize("words", ["models", "policies"])
def test_lists_load_numpy_alone(words: str) -> None:
    assert loaded(verb(words)) <= {"numpy", "pydantic_core", "pydantic"}


@pytest.mark.parametrize("words", ["devices", "traces", "traces batch:n=3,prompt=5,output=5", "check h100_sxm"])
def test_no_verb_that_computes_nothing_loads_numba(words: str) -> None:
    assert not loaded(verb(words)) & {"numba", "scipy.linalg", "scipy.special", "matplotlib", "simpy", "torch"}


@pytest.mark.parametrize(
    "words",
    [
        "simulate --model lama-3-8b", "simulate --system h1000", "capacity --model lama-3-8b --goodput ttft:1",
        "compare --model lama-3-8b --systems a100_sxm", "pools --model lama-3-8b", "recommend --model lama-3-8b",
        "regress --baseline nowhere.json", "regress --baseline new.json --record nowhere.toml",
        "simulate --from-vllm x",
    ],
)  # fmt: skip
def test_what_is_misspelt_is_said_before_numba_is_loaded(words: str) -> None:
    assert "numba" not in loaded(verb(words).replace("== 0", "== 2"))


@pytest.mark.parametrize("system", ["h100_sxm", "dgx_h100 --tp 2"])
def test_a_simulation_that_prints_loads_numba_and_no_frames_graphs_or_scipy(system: str) -> None:
    assert loaded(verb(f"simulate --system {system} {SMALL}")) == {"numpy", "numba", "pydantic_core", "pydantic"}


def test_a_simulation_writes_its_json_without_frames(tmp_path: pathlib.Path) -> None:
    assert "pandas" not in loaded(verb(f"simulate --system h100_sxm {SMALL} --json {tmp_path / 'a.json'}"))


def test_a_scenario_is_imported_without_what_checks_it() -> None:
    assert loaded("from sim.run.scenario import Scenario") == set()
    assert loaded("from sim.run.scenario import Scenario\nScenario(tp=2)") == {"pydantic_core"}


def test_a_kernel_is_a_name_until_it_is_called() -> None:
    assert "numba" not in loaded("import kernels.gemm, kernels.attention, kernels.price, kernels.collective")
    code = "from kernels.units import to_ps\nassert to_ps(1.0) == 10**12"
    assert "numba" in loaded(code)
    assert "scipy.linalg" not in loaded(code)


def test_a_room_of_the_door_is_imported_by_its_name() -> None:
    assert loaded("import ridgeline") == set()
    code = "from ridgeline.predictor import Batch, BatchTime; import ridgeline; import ridgeline.predictor as room"
    assert "torch" not in loaded(f"{code}; assert room.BatchTime is BatchTime is ridgeline.predictor.BatchTime")
