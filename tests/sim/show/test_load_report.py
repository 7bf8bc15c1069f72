"""`ridgeline traces`: lists all sources, describes a load, and says bad input in one line."""

import json

from sim.cli import main
from sim.show.load_report import list_sources
from workloads.generators import PROCESSES
from workloads.trace_formats import FORMATS


def test_every_generator_and_format_is_listed(capfd) -> None:
    assert main(["traces"]) == 0
    text = capfd.readouterr().out
    for name in (*PROCESSES, *FORMATS):
        assert f"  {name} " in text
    assert len(list_sources()) > len(PROCESSES) + len(FORMATS)
    assert main(["traces", "--json", "-"]) == 0
    assert {row["kind"] for row in json.loads(capfd.readouterr().out)["rows"]} == {
        "generator",
        "key",
        "length",
        "format",
    }


def test_a_load_is_described(capfd) -> None:
    assert main(["traces", "constant:rate=4,n=9,prompt=7,output=3"]) == 0
    text = capfd.readouterr().out
    assert "requests        9" in text
    assert "4 /s (gap variation 0.00)" in text  # 8 gaps of 0.25 s
    assert main(["traces", "batch:n=9,prompt=7,output=3", "--json", "-", "--seed", "4"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert (found["prompt_token_sum"], found["request_per_s"]) == (63, None)  # all at once: no rate


def test_bad_input_is_one_line_and_exit_code_2(capfd, tmp_path) -> None:
    (tmp_path / "bad.csv").write_text("arrival_s,prompt_token,output_token\n0,5,-1\n")
    for arguments in (
        ["poison:n=3"],
        [str(tmp_path / "bad.csv")],
        ["conversation", "--seed", "-1"],
        ["a", "b"],
        ["--sed"],
    ):
        assert main(["traces", *arguments]) == 2
        error = capfd.readouterr().err
        assert error.count("\n") == 1
    assert main(["traces", str(tmp_path / "bad.csv")]) == 2
    assert "bad.csv:2: output_token = '-1': not a whole number in range; allowed: 1 to" in capfd.readouterr().err
