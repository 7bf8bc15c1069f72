"""Faults that hostile inputs found once, each with its right answer."""

import copy
import json
import pathlib
from typing import Any

import pytest

from sim.cli import main
from tests.properties.cases import AZURE, KINETO, chakra
from tests.properties.cases_measured import MEASURED
from tests.properties.cases_search import ROW
from workloads.chakra_json import json_text

GPT2 = ["--model=gpt2", "--system=a100_sxm", "--requests=batch:n=3,prompt=8,output=4"]
TRAIN = ["--model=gpt2", "--system=dgx_a100", "--batch=8", "--seq=64"]
ODD = """from sim.serving.plugin import Option

OPTIONS = {"what": Option(0, "wrong", low=0)}


def program(p, job, option):
    if option["what"] == 1:
        yield 3
    if option["what"] == 2:
        yield p.sleep(float("nan"))
    if option["what"] == 3:
        yield p.sleep(1e300)
    raise SystemExit(3)
"""


def refused(words: list[str], capsys: pytest.CaptureFixture[str], message: str, code: int = 2) -> None:
    assert main(words) == code
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert message in said


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("traceEvents", 0, "dur"), -1, "traceEvents[0].dur = -1: not a number in range; allowed: 0 to"),
        (("traceEvents", 1, "args", "Group size"), -2, "traceEvents[1].args.Group size = -2: not a whole number"),
        (("traceEvents", 1, "args", "Group size"), 0, "Group size = 0"),
        (("traceEvents", 1, "args", "In msg nelems"), 1e300, "In msg nelems = 1e+300"),
        (("traceEvents", 0, "ts"), float("nan"), "ts = nan"),
        (("traceEvents", 0, "ts"), None, "ts = None"),
        (("traceEvents", 0, "name"), [], "traceEvents[0].name = []: not a text"),
        (("traceEvents", 0, "args"), 3, "traceEvents[0].args = 3: not an object"),
        (("distributedInfo",), "x", "distributedInfo = 'x': not an object"),
        (("distributedInfo", "rank"), 2**63, "distributedInfo.rank = 9223372036854775808"),
        (("traceEvents",), {}, "not a Chrome trace"),
    ],
)
def test_a_recording_with_what_cannot_be(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], place: tuple[Any, ...], value: Any, message: str
) -> None:
    content: Any = copy.deepcopy(KINETO)
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    (tmp_path / "k.json").write_text(json.dumps(content))
    refused(["trace", "convert", str(tmp_path / "k.json"), str(tmp_path / "o.csv")], capsys, message)
    assert not (tmp_path / "o.csv").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": float("inf")}, "version = inf: not a text"),
        ({"duration_micros": -5}, "duration_micros = -5: whole numbers from 0 on"),
        ({"duration_micros": 2**64}, "duration_micros = 18446744073709551616"),
        ({"duration_micros": float("inf")}, "not a Chakra trace"),
        ({"attr": [{"name": "num_ops", "int64_val": float("inf")}]}, "num_ops = inf: not a value of type int64"),
        ({"attr": [{"name": "num_ops", "int64_val": 2**63}]}, "9223372036854775808: not a value of type int64"),
        ({"attr": [{"name": "comm_dst", "int32_val": 2**40}]}, "comm_dst = 1099511627776"),
        ({"attr": [{"name": "is_cpu_op", "bool_val": "yes"}]}, "is_cpu_op = 'yes': not a value of type bool"),
        ({"attr": 3}, "not a Chakra trace"),
        ({"name": 3}, "name = 3: not a text"),
        ({"data_deps": ["x"]}, "not a Chakra trace"),
    ],
)
def test_a_chakra_trace_with_what_cannot_be(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], message: str
) -> None:
    content = json.loads(json_text(chakra()))
    (content if "version" in change else content["nodes"][0]).update(change)
    (tmp_path / "a.0.json").write_text(json.dumps(content))
    refused(["trace", "convert", str(tmp_path / "a.0.json"), str(tmp_path / "o.et")], capsys, message)
    assert not (tmp_path / "o.et").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"duration_micros": 2**63}, "node 1: out of range"),
        ({"attr": [{"name": "comm_size", "int64_val": -1}]}, "comm_size = -1: node 1: not a whole number in range"),
        ({"attr": [{"name": "num_ops", "double_val": float("nan")}]}, "num_ops = nan"),
    ],
)
def test_what_a_file_holds_and_a_clock_does_not(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], message: str
) -> None:
    content = json.loads(json_text(chakra()))
    content["nodes"][0].update(change)
    (tmp_path / "a.0.json").write_text(json.dumps(content).replace("NaN", '"NaN"'))
    assert main(["trace", "convert", str(tmp_path / "a.0.json"), str(tmp_path / "o.et")]) == 0  # lossless
    for words in (["convert", str(tmp_path / "a.0.json"), str(tmp_path / "o.trace.json")],
                  ["replay", str(tmp_path / "a.0.json"), str(tmp_path / "o.csv"), "--system", "h100_sxm"]):  # fmt: skip
        capsys.readouterr()
        refused(["trace", *words], capsys, message)


def test_a_trace_without_a_node_is_nothing_to_do(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.0.json").write_text('{"nodes": []}')
    words = ["trace", "replay", str(tmp_path / "a.0.json"), str(tmp_path / "o.csv"), "--system", "h100_sxm"]
    refused(words, capsys, "no node in this trace", 3)


def test_numbers_of_hundreds_of_digits(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    row, more = MEASURED["ops"]
    (tmp_path / "t.csv").write_text(",".join(row) + "\n" + ",".join(map(str, (row | {"k": 10**400}).values())))
    refused(["validate", "ops", str(tmp_path / "t.csv"), *more], capsys, "t.csv:2: a number of hundreds of digits")
    (tmp_path / "v.json").write_text(json.dumps({"vectors": [MEASURED["schedules"][0] | {"p": 10**300}]}))
    refused(["validate", "schedules", str(tmp_path / "v.json")], capsys, "out of range")


def test_a_load_test_of_no_machine(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = MEASURED["serving"][0]
    lines = [",".join(row), ",".join(map(str, (row | {"gpu": "null"}).values()))]
    (tmp_path / "t.csv").write_text("\n".join(lines))  # no row of it stands
    refused(["validate", "serving", str(tmp_path / "t.csv")], capsys, "t.csv:2: gpu = '': is empty")


@pytest.mark.parametrize("field", ["seq", "batch", "micro-batch", "tp", "interleave"])
def test_sizes_of_training_beyond_what_there_is(capsys: pytest.CaptureFixture[str], field: str) -> None:
    for value in ("9223372036854775808", "2147483647"):
        words = ["train", "--model", "gpt2", "--system", "dgx_a100", *([] if field == "batch" else ["--batch=4"])]
        refused(
            [*words, f"--{field}={value}"], capsys, f"{field.replace('-', '_')} = {value}: too large; allowed: 1 to"
        )


def test_a_number_of_hundreds_of_digits_in_a_table(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t").write_text(AZURE.rstrip() + "9" * 400 + "\n")
    refused(["traces", str(tmp_path / "t")], capsys, "t:4: GeneratedTokens = '9999")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["zb-v", "--option", "limit=1e400"], "option = 'limit=1e400': has an option of its own"),
        (["zb-v", "--option", "stages=3"], "option = 'stages=3': has an option of its own"),
        (["zb-v", "--option", "x=1", "--option", "x=2"], "option = 'x=2'"),
        (["v-half", "--stage-times", "{s}"], "plans with one time for all stages"),
        (["{p}"], "order(num_rank, num_microbatch, ...): missing a required argument: 'c'"),
    ],
)
def test_options_and_files_of_schedules(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    (tmp_path / "s.csv").write_text("forward,input_grad,weight_grad\n" + "1,2,3\n" * 4)
    (tmp_path / "p.py").write_text("def order(a, b, c):\n    return []\n")
    words = [word.format(s=tmp_path / "s.csv", p=tmp_path / "p.py") for word in words]
    refused(["schedule", *words, "--stages", "2", "--microbatches", "4"], capsys, message)


@pytest.mark.parametrize("cell", ["0F99999999999999999999", "99999999F0"])
def test_numbers_of_an_order_beyond_what_there_is(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], cell: str
) -> None:
    (tmp_path / "p.csv").write_text(f"0F0,{cell},0B0\n")
    refused(["schedule", str(tmp_path / "p.csv")], capsys, "p.csv:1: ")


def test_an_order_with_gaps_makes_no_table_of_gaps(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.csv").write_text("65535F0,0F9999999\n")
    refused(["schedule", str(tmp_path / "p.csv")], capsys, "are numbered from 0 on")


@pytest.mark.parametrize("seed", ["-1", "-9223372036854775808", "9223372036854775808"])
def test_seeds_of_a_long_run(capsys: pytest.CaptureFixture[str], seed: str) -> None:
    words = ["goodput", "--steps=50", "--step-s=1", "--gpus=8", "--mtbf-h=100", "--runs=1", f"--seed={seed}"]
    refused(words, capsys, f"seed = {seed}: out of range; allowed: 0 to")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--json="], "json = '': names nothing"),
        (["--json=x", "--csv=./x"], "csv = './x': would replace what --json writes"),
        (["--nope"], "ridgeline: unrecognized arguments: --nope"),
    ],
)
def test_outputs_that_are_none(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str],
    message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    refused(["schedule", "gpipe", "--stages", "2", "--microbatches", "2", *words], capsys, message)
    assert not list(tmp_path.iterdir())


def test_rows_of_a_study_that_are_none(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    for rows, message in (
        (3, "field rows"), ([], "rows = []: not the rows of a study"), ([3], "rows[0] = 3: not the row of a study"),
        ([ROW | {"paper": "x"}], "rows[0].paper = 'x': not a number"),
        ([ROW | {"kind": 3}], "rows[0].kind = 3: not a text"),
        ([ROW, {"claim": "c"}], "rows[1] = 'system': no such column"), ([ROW | {"error": 10**400}], "rows[0].error"),
    ):  # fmt: skip
        (tmp_path / "r.json").write_text(json.dumps({"rows": rows}))
        refused(["study", "report", str(tmp_path / "r.json")], capsys, message.removeprefix("field "))
    for name, message in (("/dev/zero", "too large"), ("nowhere", "No such file")):
        refused(["study", "report", name], capsys, message)


def test_a_study_of_ones_own_that_fails(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.py"
    for text, line in (("import sys\nsys.exit(0)", 2), ("x = 1\n1 / 0", 2), ("def (", 1)):
        path.write_text(text)
        refused(["study", "run", str(path)], capsys, f"{path}:{line}: ")
    path.write_text("CLAIM = ''\ndef plot(rows):\n    pass\ndef run():\n    return [][1]\n")
    refused(["study", "run", str(path)], capsys, f"{path}:5: IndexError")
    assert not list(tmp_path.rglob("__pycache__"))


def test_parquet_of_more_rows_than_there_can_be(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    zero = pa.nulls((1 << 24) + 1, pa.int8()).fill_null(1)
    pq.write_table(pa.table({"arrival_s": zero, "prompt_token": zero, "output_token": zero}), tmp_path / "t")
    assert (tmp_path / "t").stat().st_size < 1 << 20
    refused(["traces", str(tmp_path / "t")], capsys, "rows = 16777217: too many rows; allowed: 16,777,216 at most")
    pq.write_table(pa.table({"arrival_s": [0], "x": [1]}), tmp_path / "t")
    refused(["traces", str(tmp_path / "t")], capsys, "header = 'x': unknown column")


def test_nothing_to_compare_is_said(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = MEASURED["steps"][0]
    for cells, message in (([], "no row"), ([row | {"model": "none-such"}], "nothing could be compared")):
        lines = [",".join(row), *(",".join(map(str, line.values())) for line in cells)]
        (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
        refused(["validate", "steps", str(tmp_path / "t.csv")], capsys, message, 3)
    refused(["models", "--check", str(tmp_path)], capsys, "no configuration in this folder", 3)


def test_counts_beyond_what_there_is(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = MEASURED["steps"][0]
    (tmp_path / "t.csv").write_text(",".join(row) + "\n" + ",".join(map(str, (row | {"tp": 10**29}).values())))
    refused(["validate", "steps", str(tmp_path / "t.csv")], capsys, "t.csv:2: tp = ")
    row = MEASURED["training"][0]
    (tmp_path / "t.csv").write_text(",".join(row) + "\n" + ",".join(map(str, (row | {"tp": "1e400"}).values())))
    message = "no row can be run; {file}:2: tp = inf: not a whole number; allowed: 1 to"
    refused(["validate", "training", str(tmp_path / "t.csv")], capsys, message.format(file=tmp_path / "t.csv"))


@pytest.mark.parametrize(
    ("words", "message", "code"),
    [
        (["train", *TRAIN[:3], "--seq=--"], "seq = '--': is no value", 2),
        (["goodput", f"--steps={'9' * 400}", "--step-s=1", "--gpus=8", "--mtbf-h=1"], "beyond what there is", 2),
        (["goodput", "--steps=5", "--step-s=nan", "--gpus=8", "--mtbf-h=1"], "--step-s: not a finite number: 'nan'", 2),
        (["goodput", "--steps=x", "--step-s=1", "--gpus=8", "--mtbf-h=1"], "--steps: invalid int value: 'x'", 2),
        (["train", *TRAIN, "--dispatch=deepep"], "dispatch = 'deepep': has no effect: needs ep > 1", 2),
        (["goodput", "--steps=5", "--step-s=1e-18", "--gpus=8", "--mtbf-h=1"], "step_s = 1e-18: out of range", 2),
        (["goodput", "--steps=5", "--step-s=1", "--gpus=8", "--mtbf-h=1e300"], "mtbf_h = 1e+300: out of range", 2),
        (["schedule", "list", "--stages=2"], "stages = 2: has no effect on the list", 2),
        (["train", *TRAIN, "--compression=fp16"], "compression = 'fp16': has no effect: needs replicas", 2),
        (["train", *TRAIN, "--interleave=2"], "interleave = 2: has no effect: needs pp > 1", 2),
        (["accuracy", "--training", "--data=."], "data = '.': no measured rows of a stack here", 3),
        (["pools", *GPT2, "--link-gbps=1e-300"], "link_byte_per_s = 1e-291: out of range; allowed: 1e+07 to", 2),
        (["pools", *GPT2, "--prefill=dp=1,dp=2"], "prefill = 'dp=1,dp=2': dp is given twice", 2),
        (["pools", *GPT2, "--order=priority"], "order = 'priority': has no effect", 2),
        (["pools", *GPT2, "--decode=timeout_s=1"], "decode = 'timeout_s': no field in which pools differ", 2),
        (
            ["pools", *GPT2, "--transfer=rule.py"],
            "rule.py: left_byte = inf: is no share of what there is to send",
            2,
        ),
        (["programs", *GPT2[:2], "--requests=batch:n=2,prompt=9000,output=4"], "no request was served: context", 3),
        (["programs", *GPT2, "--outside=tool=2"], "outside = 'tool': has no effect: no program calls it", 2),
        (["programs", *GPT2, "--program=odd.py:what=1"], "odd.py:8: yield = 3: waits for what is no event", 2),
        (["programs", *GPT2, "--program=odd.py:what=2"], "odd.py:10: PlanError: waits nan seconds", 2),
        (["programs", *GPT2, "--program=odd.py:what=3"], "odd.py:12: PlanError: waits 1e+300 seconds", 2),
        (["programs", *GPT2, "--program=odd.py:what=4"], "odd.py:13: calls sys.exit(3)", 2),
        (["roofline", *GPT2[:2], "--dp=2"], "dp = 2: has no effect: a step is one replica's", 2),
        (["offload", "--model=gpt2", "--weight=nan,0,1"], "weight = (nan, 0.0, 1.0): not shares", 2),
        (["train", "--from=bomb.sh", "--system=dgx_a100"], "a line too long, its variables filled in", 2),
        (["train", "--from=cut.toml", "--system=dgx_a100"], "cut.toml:1: is not TOML: Unclosed array", 2),
        (["train", "--from=latin.yaml", "--system=dgx_a100"], "latin.yaml:2: not UTF-8 text", 2),
        (["check", "none\x1b[31m.toml"], "none\\x1b[31m.toml: ", 2),
    ],
)
def test_options_of_every_verb_that_cannot_be(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str],
    message: str, code: int,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rule.py").write_text("def left_byte(byte, num_layer, step_s, rate):\n    return byte / 0\n")
    (tmp_path / "odd.py").write_text(ODD)
    (tmp_path / "bomb.sh").write_text("A0=xx\n" + "".join(f"A{n + 1}=$A{n}$A{n}\n" for n in range(60)))
    (tmp_path / "cut.toml").write_text("a = [1")
    (tmp_path / "latin.yaml").write_bytes(b"num_layers: 4\nname: \xe9\n")
    refused(words, capsys, message, code)


def test_a_text_that_a_short_row_lacks(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m.csv").write_text(
        "dtype,kernel,num_token,hidden,inter,topk,num_expert,tp,ep,latency_ms,distribution\n"
        "bfloat16,vllm_fused_moe,1,4096,14336,2,8,1,1,0.45,power_law_1.01\nbfloat16,vllm_fused_moe,1,4096,14336,2,8,1,1,0.45\n"
    )
    assert main(["validate", "ops", str(tmp_path / "m.csv"), "--system=h100_sxm"]) == 0
    assert "1 rows: distribution '' is not balanced or power_law_X" in capsys.readouterr().out


def test_a_node_of_a_trace_whose_name_is_no_number(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.0.json"
    node = {"Id": 1, "Name": "a", "NodeType": 4, "data_deps": [], "runtime": 5}
    file.write_text(json.dumps({"workload_graph": [node, node | {"Id": {"a": 1}, "data_deps": [1]}]}))
    refused(["trace", "replay", str(file), str(tmp_path / "o.csv"), "--system", "h100_sxm"], capsys, "id")


@pytest.mark.parametrize("batch", ["9" * 5000, "\u00b2", "4,", "2147483648", "0"])
def test_sizes_that_are_no_whole_numbers(batch: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "--model=gpt2", "--system=dgx_a100", "--gpus=2", f"--batch={batch}", "--seq=64"]
    refused(words, capsys, "not whole numbers with commas between; allowed: 1 to 16777216 each")


@pytest.mark.parametrize("size", [2**31, 2**63 - 1])
def test_a_measured_product_beyond_the_table_is_counted(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], size: int
) -> None:
    file = tmp_path / "v.csv"
    good = "64,4096,1024,bfloat16,linear,0.02"
    file.write_text(f"m,n,k,dtype,kernel,latency_ms\n64,{size},1024,bfloat16,linear,0.02\n{good}")
    assert main(["validate", "ops", str(file), "--system", "h100_sxm", "--json", str(tmp_path / "o.json")]) == 0
    rows = json.loads((tmp_path / "o.json").read_text())["rows"]
    assert {row["n"] for row in rows} == {1}  # the other one is priced


def test_a_machine_of_the_name_inf_is_a_name(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "v.csv"
    head = "model,system,tp,batch_size,prompt_len,output_len,prompt_time_ms,token_time_ms\n"
    file.write_text(f"{head}0,inf,1,2,512,16,120.0,14.0\nllama-2-7b,a100_sxm_80gb,1,2,512,16,120.0,14.0")
    assert main(["validate", "steps", str(file)]) == 0
    assert "'inf'" in capsys.readouterr().out


def test_a_price_that_is_next_to_nothing_buys_no_endless_amount(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "m.toml"
    file.write_text(
        'kind = "device"\nbase = "l40s"\ntitle = "cheap"\nprice_USDph = { value = 1e-320, source = "none" }\n'
    )
    assert main(["devices", str(file)]) == 0
    said = capsys.readouterr().out
    assert "a dollar" not in said
    assert "inf" not in said.split()


@pytest.mark.parametrize("seq", ["2147483647", "4294967296", "16777217"])
def test_a_sequence_that_no_step_can_hold(seq: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "--model=gpt2", "--system=dgx_a100", "--gpus=2", "--batch=4", f"--seq={seq}"]
    refused(words, capsys, f"seq = {seq}: out of range; allowed: 1 to 16777216")


def test_more_runs_than_anybody_waits_for(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["goodput", "--steps=50", "--step-s=1", "--gpus=8", "--mtbf-h=100", "--checkpoint-s=5"]
    refused([*words, "--runs=9223372036854775808"], capsys, "out of range; allowed: 1 to 100000")


def test_a_backend_of_the_name_inf_is_a_name(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "v.csv"
    rows.write_text("backend,nreqs,prefixlen,ctxlen,outlen,req_per_sec\ninf,4,64,20,4,3.0\n")
    assert main(["validate", "offline", str(rows)]) == 3  # nothing that could be compared
    assert "  'inf'  " in capsys.readouterr().out


def test_a_format_of_the_name_inf_is_a_name(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "v.csv"
    good = "64,4096,1024,bfloat16,linear,0.02"
    rows.write_text(f"m,n,k,dtype,kernel,latency_ms\n{good}\n{good.replace('bfloat16', 'inf')}\n")
    assert main(["validate", "ops", str(rows), "--system", "h100_sxm"]) == 0
    assert "dtype 'inf' is no format of ours" in capsys.readouterr().out


@pytest.mark.parametrize("replayer", ['"x"', "true", '{"makespan": "x"}'])
def test_a_published_schedule_whose_times_are_none(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], replayer: str
) -> None:
    vector = '{"schedule": "zb", "p": 1, "m": 1, "tF": 1, "tB": 1, "tW": 1, "tComm": 0, "order": ["F0.0 I0.0 W0.0"]'
    (tmp_path / "v.json").write_text(f'{{"vectors": [{vector}, "replayer": {replayer}}}]}}')
    code = main(["validate", "schedules", str(tmp_path / "v.json")])
    said = capsys.readouterr()
    assert code in (2, 3)
    assert "measured is an object" in said.err + said.out or "not a number" in said.err + said.out


@pytest.mark.parametrize("name", ["zb-auto", "zb-exact"])
def test_times_of_other_stages(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    (tmp_path / "s.csv").write_text("forward,input_grad,weight_grad\n5,2,3\n4,5,6\n")
    words = ["schedule", name, "--stages=4", "--microbatches=2", "--stage-times", str(tmp_path / "s.csv")]
    refused(words, capsys, "times = 2: a time for each stage; allowed: 4")


def test_a_field_that_was_written_as_another_type() -> None:
    from workloads.chakra_wire import WireError, decode

    for scalar, raw in (("int64", b"R\x0e\n\t"), ("double", 5), ("double", b"123"), ("string", 7), ("bool", b"x")):
        with pytest.raises(WireError, match="where"):
            decode(scalar, raw)
