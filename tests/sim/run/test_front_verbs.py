"""A server's command line opens every verb that takes a scenario; what a verb does not read of it is said."""

import json
import pathlib

import pytest

from kernels.errors import InputError
from sim.cli import build_parser, main
from sim.run import scenario_arguments
from sim.run.scenario import Scenario

LINE = "vllm serve gpt2 -tp 2 --max-num-seqs 8 --port 80"
LOAD = ["--system", "dgx_h100", "--requests", "batch:n=3,prompt=8,output=4"]
NEEDS = {"recommend": ["--ttft-p99-s", "1", "--tpot-p99-s", "1"]}
UNREAD = {"recommend": ["-tp"], "roofline": ["--max-num-seqs"]}
VERBS = ("capacity", "compare", "pools", "programs", "quickstart", "recommend", "roofline", "simulate", "sweep")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_reads_the_same_scenario(verb: str) -> None:
    words = [verb, "--from-vllm", LINE, "--system", "dgx_h100", *NEEDS.get(verb, [])]
    arguments = build_parser(verb).parse_args(words)
    scenario = scenario_arguments.build(arguments)
    expected = {"model": "gpt2", "tp": 2, "max_num_seq": 8, "system": "dgx_h100"}
    read = {name: value for name, value in expected.items() if name in arguments.scenario_fields}
    assert {name: getattr(scenario, name) for name in read} == read
    notes = scenario_arguments.notes_of(arguments)
    assert any(note.startswith("--port: no effect on time") for note in notes)
    assert [note for note in notes if "not read by" in note] == [
        f"{flag}: not read by {verb}" for flag in UNREAD.get(verb, [])
    ]


def test_a_file_says_too_what_of_it_is_not_read(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text('model = "gpt2"\nsystem = "dgx_h100"\nmax_num_seq = 4\n')
    arguments = build_parser("roofline").parse_args(["roofline", str(path)])
    assert scenario_arguments.build(arguments).model == "gpt2"
    assert scenario_arguments.note_lines(arguments) == ["Note: max_num_seq: not read by roofline."]


def test_two_servers_side_by_side(capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path) -> None:
    out = tmp_path / "a.json"
    two = ["compare", "--from-vllm", LINE, "--from-sglang", "sglang serve --model gpt2 --tp 2", *LOAD]
    assert main([*two, "--json", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "Note: vLLM: --port: no effect on time" in shown
    assert "Calibration: measured on h100_sxm" in shown
    found = json.loads(out.read_text())
    assert {one["calibration"] for one in found["about"].values()} == {"measured on h100_sxm"}
    assert len(found["about"]) == 2
    assert any("--port" in note for note in found["note"])
    bad = ["compare", "--from-vllm", LINE, "--from-sglang", "sglang serve --model gpt2 --tp 5", *LOAD]
    assert main(bad) == 2
    assert "--tp of the SGLang command: tp = 5" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["capacity", "sweep", "roofline"])
def test_errors_of_any_verb_name_the_flag(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    more = {"capacity": ["--goodput", "ttft:1"], "sweep": ["--over", "seed=0"]}.get(verb, [])
    assert main([verb, "--from-vllm", "vllm serve gpt2 --gpu-memory-utilization 1.5", *more]) == 2
    assert "--gpu-memory-utilization of the vLLM command: memory_share = 1.5" in capsys.readouterr().err


def test_one_command_line_and_nothing_beside_it(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text('model = "gpt2"\n')
    for words in (["simulate", str(path), "--from-vllm", LINE], ["compare", str(path), "--from-vllm", LINE],
                  ["sweep", "--from-vllm", LINE, "--from-vllm", LINE]):  # fmt: skip
        with pytest.raises(InputError, match="from_vllm"):
            scenario_arguments.build(build_parser(words[0]).parse_args(words))


def test_machines_that_a_verb_tries_are_named() -> None:
    words = ["compare", "--from-vllm", LINE, "--systems", "h100_sxm,a100_sxm"]
    arguments = build_parser("compare").parse_args(words)
    assert scenario_arguments.build(arguments).system == Scenario().system
    assert not any("names no machine" in note for note in scenario_arguments.notes_of(arguments))
