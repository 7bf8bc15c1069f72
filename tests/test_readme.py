"""Every command of the README's tables runs: with the words that the README has, on inputs as small as they can be.

A cell of code is a command where it begins with a verb, or options of one. `RUN` has a line for each command: the
README's own words with its files and numbers replaced by those of a test (`SMALLER`), and what makes it small. A flag
that is renamed ends with exit code 2, a cell without a line here fails the first test.
"""

import pathlib
import re
import shlex
import shutil

import pytest

from hw_models import catalog
from sim import cli
from tests.workloads.test_jobs import SCRIPT
from workloads.chakra import Node, Trace, et_bytes
from workloads.models.catalogue import FOLDER

README = pathlib.Path(__file__).parents[1] / "README.md"
VERBS = frozenset(path.stem for path in (README.parent / "sim" / "commands").glob("[a-z]*.py"))
TWO = "poisson:rate=4,n=2,prompt=64,output=4"
MODEL = "--model llama-3.2-1b"
LOAD = f"{MODEL} --requests {TWO}"
HERE = f"--system h100_sxm --requests {TWO}"

# the README's words: those of the test
SMALLER = {
    "vllm serve Qwen/Qwen3-32B -tp 4 ...": "vllm serve Qwen/Qwen3-8B -tp 2",
    "chain_of_thought:chunk=64": "chain_of_thought:chunk=8",
    "opt-30b": "opt-6.7b", "llama-3-70b": "llama-3.2-1b", "gpt3-175b": "gpt3-7b", "256,512": "8",
    "seed=0:39:1": "seed=0:1:1", "a.*.et": "a.0.et", "1536": "64",
}  # fmt: skip

RUN: dict[str, str] = {  # a command of the README: what is said beside it
    "simulate": LOAD,
    'simulate --from-vllm "vllm serve Qwen/Qwen3-32B -tp 4 ..." --system dgx_h100': f"--requests {TWO}",
    "capacity": f"{LOAD} --goodput e2el:9",
    "compare": f"{LOAD} --systems l40s,h100_sxm --plot front.png",
    "sweep": "s.toml --over seed=1,2 --jobs 1 --plot front.png --html page.html",
    "recommend": f"{MODEL} --load {TWO} --ttft-p99-s 9 --tpot-p99-s 9 --systems l40s --max-devices 1 --plot front.png",
    "roofline --plot r.png": f"{MODEL} --batch 2 --context 64",
    "simulate --system h200 --attn-dp 8 --ffn-system h100_sxm --ffn-tp 4 --num-microbatch 2":
    "--model olmoe-1b-7b --requests batch:n=2,prompt=64,output=2 --quiet",
    "pools --prefill dp=2 --decode dp=1,system=a100_sxm --transfer layered": LOAD,
    'simulate --kv-tiers "host:GiB=512+disk:GiB=4000,read_GBps=14,write_GBps=8,via=host"': LOAD,
    "operate scenario.toml": "",
    "programs --program chain_of_thought:chunk=64 --queue program": LOAD,
    "offload --model opt-30b --system n1_t4 --find --host-attention": "--prompt 16 --output 4",
    'capacity --goodput "ttft:0.5 tpot:0.05"': LOAD,
    "recommend --model llama-3-70b --load ... --ttft-p99-s 1 --tpot-p99-s 0.06 --systems h100_sxm,a100_sxm":
        "--max-devices 1 --top 1",
    "sweep s.toml --over seed=0:39:1 --over policy=vllm_v1,sarathi --store DIR": "--jobs 1",
    "compare --systems a100_sxm,h100_sxm": LOAD,
    "regress --baseline guard.json": "",
    "models": "", "devices": "", "policies": "", "traces": "",
    "models --check DIR": "", "check my.toml": "",
    "schedule zb-v --stages 8 --microbatches 24 --plot z.png": "",
    "train --model gpt3-175b --system dgx_a100 --tp 8 --pp 16 --dp 8 --batch 1536": "",
    "train --from run.sh --system dgx_h100": "",
    "plan --from ...": "run.sh --system dgx_h100 --top 1",
    "plan --model gpt3-175b --system dgx_a100 --gpus 256,512 --batch 1536 --space execution": "--top 1",
    "goodput": "--steps 100 --step-s 1 --gpus 8 --mtbf-h 1000",
    "trace convert a.0.et a.trace.json": "",
    "trace replay a.*.et out.csv --system dgx_h100": "",
    "study list": "", "study run zero-bubble --plot z.png": "--small", "study run my_study.py": "",
    "validate ops": "ops.csv --system h100_sxm",
    "accuracy": "", "accuracy --engines": "", "accuracy --energy": "", "accuracy --training": "",
    "bench": "price_operators",
}  # fmt: skip
PARSED = {  # needs torch, hours, or a cluster: what the parser says of them
    "study run --all": "", "calibrate --device cuda --out mine.toml": "",
    "reference run scenario.toml --device cuda": "",
}  # fmt: skip
OPTIONS: dict[str, str] = {  # options that a table names by themselves: a run that has them
    "--from-sglang": f'simulate --from-sglang "sglang serve --model-path Qwen/Qwen3-8B" {HERE}',
    "--from-trtllm": f'simulate --from-trtllm "trtllm-serve Qwen/Qwen3-8B" {HERE}',
    "--plot front.png": "", "--html page.html": "",
    "--requests FILE": f"simulate {MODEL} --requests requests.csv",
    "--requests FILE,max_concurrency=64": f"simulate {MODEL} --requests requests.csv,max_concurrency=64",
    "--speculate chain:k=4,accept=0.7 --draft-model llama-3.2-1b":
        f"simulate --model llama-3-8b --requests {TWO} --speculate chain:k=4,accept=0.7 --draft-model llama-3.2-1b",
    "--system duplex --dispatch co_process":
        f"simulate --model mixtral-8x7b --requests {TWO} --system duplex --dispatch co_process --tp 4",
    "--executor ray": "", "--sampler optuna": "",
    "--fidelity replay": "train --model gpt3-7b --system dgx_a100 --tp 4 --pp 2 --batch 16 --fidelity replay",
    "--system mine.toml": f"simulate {LOAD} --system my.toml --fidelity sol",
}  # fmt: skip


def spans() -> list[str]:
    """Cells of code in the table of what to say."""
    table = README.read_text().partition("| I want to... | I say |")[2].partition("\n\n")[0]
    return [span for line in table.splitlines() for span in re.findall(r"`([^`]+)`", line.partition(" | ")[2])]


def is_command(span: str) -> bool:
    return span.split(maxsplit=1)[0] in VERBS


COMMANDS = [span.removeprefix("ridgeline ") for span in spans() if is_command(span.removeprefix("ridgeline "))]


def test_every_command_has_its_run() -> None:
    verbs = sorted(path.stem for path in (README.parent / "sim" / "validate").glob("[a-z]*.py"))
    assert sorted(set(COMMANDS) - RUN.keys() - PARSED.keys() - set(verbs)) == []
    assert sorted((RUN.keys() | PARSED.keys()) - set(COMMANDS)) == []
    assert sorted({span for span in spans() if span.startswith("--")} - OPTIONS.keys()) == []


@pytest.fixture
def place(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The files that the README names."""
    scenario = f'model = "llama-3.2-1b"\nsystem = "h100_sxm"\nrequests = "{TWO}"\n'
    (tmp_path / "s.toml").write_text(scenario)
    (tmp_path / "scenario.toml").write_text(f'{scenario}dp = 2\n[operation]\nscaler = "fixed"\nload_GBps = 10.0\n')
    (tmp_path / "requests.csv").write_text("arrival_s,prompt_token,output_token\n0,64,4\n0.1,32,3\n")
    (tmp_path / "ops.csv").write_text("dtype,kernel,m,n,k,latency_ms\nbfloat16,k,64,4096,4096,0.02\n")
    (tmp_path / "run.sh").write_text(SCRIPT.replace("EXTRA", ""))
    shutil.copy(catalog.device("h100_sxm").file, tmp_path / "my.toml")
    shutil.copy(README.parent / "studies" / "_template.py", tmp_path / "my_study.py")
    (tmp_path / "DIR").mkdir()
    shutil.copy(FOLDER / "configs" / "llama-3.2-1b.json", tmp_path / "DIR" / "config.json")
    node = Node(id=1, name="a", type="COMP_NODE", duration_micros=5)
    (tmp_path / "a.0.et").write_bytes(et_bytes(Trace(node=[node])))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def words(text: str, more: str = "") -> list[str]:
    """The words of a command as it is run here."""
    said = [SMALLER.get(word, word) for word in shlex.split(text)]
    if "--load" in said:
        said = [TWO if word == "..." else word for word in said]
    return [*(word for word in said if word != "..."), *shlex.split(more)]


@pytest.mark.parametrize("command", sorted(RUN))
def test_a_command_of_the_readme_runs(command: str, place: pathlib.Path) -> None:
    if command.startswith("regress"):
        assert cli.main(["regress", "--baseline", "guard.json", "s.toml", "--record"]) == 0
    assert cli.main(words(command, RUN[command])) == 0


@pytest.mark.parametrize("option", sorted(key for key, line in OPTIONS.items() if line))
def test_options_of_the_readme_run(option: str, place: pathlib.Path) -> None:
    assert cli.main(shlex.split(OPTIONS[option])) == 0


@pytest.mark.parametrize("command", sorted(PARSED))
def test_a_long_command_of_the_readme_is_one(command: str) -> None:
    said = shlex.split(command)
    assert cli.build_parser(said[0]).parse_args(said).command == said[0]
