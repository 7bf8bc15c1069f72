"""Adding a GPU, a policy, a router, a progress model, a trace format or a model is one new file; the examples of
docs/add.md and docs/ways.md are the files."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

from hw_models import catalog
from sim.cli import main
from sim.run.scenario import Scenario
from sim.run.simulate import simulate
from workloads.models.catalogue import FOLDER

ROOT = pathlib.Path(__file__).parents[3]
LOAD = "batch:n=6,prompt=100,output=8"


def block(language: str, word: str, page: str = "docs/add.md") -> str:
    """The page's block of code that holds `word`."""
    blocks = re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    return next(text for text in blocks if word in text)


def base(**change: object) -> Scenario:
    return Scenario(**({"model": "gpt2", "system": "a100_sxm_80gb", "fidelity": "sol", "requests": LOAD} | change))  # type: ignore[arg-type]


def test_a_gpu(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "h141.toml"
    path.write_text(block("toml", 'base = "h100_sxm"'))
    device = catalog.system(str(path)).device
    assert (device.mem_byte, device.mem_byte_per_s, device.relative) == (141 * 2**30, 4.8e12, "h100_sxm")
    assert simulate(base(system=str(path))).metrics["completed"] == 6


@pytest.mark.parametrize("compiled", [True, False])
def test_a_policy(tmp_path: pathlib.Path, compiled: bool) -> None:
    path = tmp_path / "alone.py"
    path.write_text(block("python", "def plan") + ("" if compiled else "\n\nCOMPILED = False\n"))
    done = simulate(base(policy=str(path)), record_steps=True)
    assert done.result.engine == ("run-ahead" if compiled else "stepping")
    assert done.result.step is not None
    # one sequence a step: 6 prompts, and the 7 tokens that follow the first of each
    assert done.run.totals["num_step"] == 6 * (1 + 7)
    assert done.run.steps is not None
    assert done.run.steps[["num_prefill", "num_decode"]].sum(axis=1).max() == 1


def test_compiled_and_plain_policies_mean_the_same(tmp_path: pathlib.Path) -> None:
    text = block("python", "def plan")
    (tmp_path / "a.py").write_text(text)
    (tmp_path / "b.py").write_text(text + "\n\nCOMPILED = False\n")
    one, two = (simulate(base(policy=str(tmp_path / name))).result for name in ("a.py", "b.py"))
    assert one.request["end_ps"].tolist() == two.request["end_ps"].tolist()


def test_an_attention_over_shared_spans(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "crowd.toml"
    path.write_text('title = "spans of five and more"\nsource = "a test"\nleast_row = 5\n')
    load = "batch:n=6,prompt=20,output=8,num_system_prompt=1,system_prompt_len=64"
    done = simulate(base(attention=str(path), requests=load))
    assert done.run.totals["num_spared_key"] >= 6 * 4 * 64  # 7 decodes of 6 rows, but for those of who came first
    assert simulate(base(attention=str(path), requests=LOAD)).run.totals["num_spared_key"] == 0


def test_a_router(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "last_least.py"
    path.write_text(block("python", "def route"))
    done = simulate(base(router=str(path), dp=3, requests="batch:n=3,prompt=100,output=8"))
    # three at once: the last of the emptiest takes each, so 2, 1, 0
    assert done.run.requests["replica"].tolist() == [2, 1, 0]


@pytest.mark.parametrize("compiled", [True, False])
def test_a_progress_model(tmp_path: pathlib.Path, compiled: bool) -> None:
    path = tmp_path / "courage.py"
    path.write_text(block("python", "def propose", "docs/ways.md") + ("" if compiled else "\n\nCOMPILED = False\n"))
    done = simulate(base(speculate=f"{path}:accept=1,limit=4", requests="batch:n=1,prompt=100,output=18"))
    assert done.result.engine == ("run-ahead" if compiled else "stepping")
    # all hold: the prompt's token, then 1 + 1, 1 + 2, and 1 + 4 for as long as it lasts, the end cuts the last
    assert done.run.totals["num_step"] == 1 + 5
    assert done.run.requests["drafted_token"].tolist() == [1 + 2 + 3 * 4]
    assert done.run.requests["accepted_token"].tolist() == [17 - 5]
    assert done.metrics["spec_decode_acceptance_length"] == 1 + 12 / 5


def test_a_model(tmp_path: pathlib.Path) -> None:
    config = json.loads((FOLDER / "configs" / "llama-2-7b.json").read_text())
    config["num_hidden_layers"] = 2
    (tmp_path / "config.json").write_text(json.dumps(config))
    small, large = (simulate(base(model=name)).metrics for name in (str(tmp_path / "config.json"), "llama-2-7b"))
    assert small["mean_tpot_ms"] < large["mean_tpot_ms"] / 4  # 2 layers and a head against 32 and a head


def test_a_trace_format(tmp_path: pathlib.Path) -> None:
    (tmp_path / "semicolons.py").write_text(
        "from workloads.requests import build\n"
        'HELP = "prompt;output, all at once"\n'
        "OPTIONS = {}\n"
        "def sniff(head):\n    return b';' in head\n"
        "def read(path, options, seed):\n"
        "    rows = [list(map(int, line.split(';'))) for line in path.read_text().split()]\n"
        "    return build([0] * len(rows), [row[0] for row in rows], [row[1] for row in rows])\n"
    )
    info = tmp_path / "semicolons-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: semicolons\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[ridgeline.traces]\nsemicolons = semicolons\n")
    (tmp_path / "load.txt").write_text("100;8\n50;4\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    command = [sys.executable, "-m", "sim.cli", "traces", str(tmp_path / "load.txt")]
    shown = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    assert "75" in shown.stdout  # the mean prompt of 100 and 50


def test_a_system_of_ones_own_is_one_file_that_is_judged(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The page's study names itself as the policy, and prints what the page shows."""
    path = tmp_path / "doorman.py"
    path.write_text(block("python", "Doorman"))
    assert main(["study", "run", str(path)]) == 0
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    shown = [line.split() for line in block("console", "Doorman").splitlines() if "reproduced" in line]
    assert len(shown) == 3
    assert all(line in printed for line in shown)
