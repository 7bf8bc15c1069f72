"""`validate steps`: prompt and token times and iterations of files that nobody has seen."""

import json
import math
import pathlib

import numpy as np
import pandas as pd
import pytest

from kernels.errors import InputError
from sim.cli import main
from sim.run.scenario import Scenario
from sim.run.simulate import simulate
from sim.serving.engine_profile import load
from sim.serving.step_time import Batch, Deployment, step_s
from sim.validate.steps import validate_steps
from tests.shared_data import folder

ROW = {"model": "llama2-70b", "hardware": "h100-80gb", "prompt_size": 512, "batch_size": 1, "token_size": 128,
       "tensor_parallel": 4, "prompt_time": 60.0, "token_time": 29.5, "e2e_time": 3800.0}  # fmt: skip
H100 = Deployment("llama-2-70b", "h100_sxm", 4)


def file_of(tmp_path: pathlib.Path, *rows: dict[str, object]) -> pathlib.Path:
    path = tmp_path / "elsewhere.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def test_names_and_order_of_columns_and_rows_do_not_matter(tmp_path: pathlib.Path) -> None:
    rows = [ROW, ROW | {"batch_size": 4, "prompt_time": 195.0}, ROW | {"tensor_parallel": 8, "prompt_time": 54.0}]
    names = {"hardware": "GPU", "prompt_size": "isl", "tensor_parallel": "TP", "prompt_time": "prompt_time_s"}
    one, _ = validate_steps(file_of(tmp_path, *rows))
    second = pd.DataFrame(rows[::-1]).rename(columns=names)
    second["prompt_time_s"] /= 1000
    path = tmp_path / "renamed.csv"
    second[sorted(second.columns)].to_csv(path, index=False)
    other, _ = validate_steps(path)
    key = lambda row: (row["kind"], row["kernel"], row["size_class"])  # noqa: E731
    assert {key(row): pytest.approx(row["mape"]) for row in one} == {key(row): row["mape"] for row in other}


def test_a_batch_served_in_parts_counts_against_coverage(tmp_path: pathlib.Path) -> None:
    parts = ROW | {"batch_size": 64, "e2e_time": 80_000.0}  # of phases that take 60 + 127 x 29.5 ms
    unknown = ROW | {"model": "acme-9b"}
    rows, reasons = validate_steps(file_of(tmp_path, ROW, parts, unknown))
    assert rows[-1]["n"] == 2  # the prompt and the token time of the first row
    assert rows[-1]["coverage"] == pytest.approx(1 / 3)
    assert any("served in parts" in reason for reason in reasons)  # 80 s are not 60 ms and 127 x 29.5 ms
    assert any("acme-9b" in reason for reason in reasons)


@pytest.mark.parametrize(
    ("change", "line"),
    [({"prompt_time": -1.0}, 2), ({"token_time": 0.0295}, 2), ({"prompt_time": 60_000.0}, 2)],
    ids=["negative", "seconds for milliseconds", "microseconds for milliseconds"],
)
def test_a_row_that_cannot_be_is_counted_and_refused_by_its_line_where_there_is_no_other(
    tmp_path: pathlib.Path, change: dict, line: int
) -> None:
    rows, reasons = validate_steps(file_of(tmp_path, ROW, ROW | change))
    (every,) = (row for row in rows if row["kind"] == "all" and row["format"] == "all")
    assert 0.5 <= every["coverage"] < 1
    assert sum(n for why, n in reasons.items() if why.endswith(("not a measurement", "(is the unit right?)"))) == 1
    with pytest.raises(InputError, match=f":{line}"):
        validate_steps(file_of(tmp_path, ROW | change))


def test_what_a_file_leaves_out_is_said_on_the_command_line(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    step = {"batch_num_prefill_tokens": 0, "batch_num_decode_tokens": 4, "batch_size": 4, "batch_execution_time": 0.05}
    mixed = step | {"batch_num_prefill_tokens": 1021, "batch_num_decode_tokens": 3, "batch_execution_time": 0.2}
    path, out = file_of(tmp_path, step, mixed), tmp_path / "x.json"
    assert main(["validate", "steps", str(path)]) == 2
    assert "--model" in capsys.readouterr().err
    named = ["--model", "yi-34b", "--system", "dgx_a100", "--tp", "2"]
    assert main(["validate", "steps", str(path), *named, "--json", str(out)]) == 0
    rows = json.loads(out.read_text())["rows"]
    assert {row["kind"] for row in rows} == {"decode", "hybrid", "all"}
    assert all(row["coverage"] == 1 for row in rows)


def test_serving_knows_a_file_of_steps(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "serving", str(file_of(tmp_path, ROW))]) == 0
    assert "token" in capsys.readouterr().out


def test_a_lone_request_takes_the_steps_that_are_priced() -> None:
    name = "vllm_2023_h100"
    request = "batch:n=1,prompt=700,output=2"
    run = simulate(
        Scenario(model=H100.model, system=H100.system, tp=4, requests=request, engine=name, policy="vllm_v0")
    )
    done = run.run.requests.iloc[0]
    prompt = step_s(H100, load(name), Batch(1, 700))
    token = step_s(H100, load(name), Batch(num_decode=1, kv_len=701))
    assert done["ttft_s"] == pytest.approx(prompt, rel=1e-12)  # no queue, and this profile has no time for a request
    assert done["e2e_s"] == pytest.approx(prompt + token, rel=1e-12)


def test_a_step_lasts_as_long_as_its_launches_or_its_kernels() -> None:
    profile = load("vllm_2023_h100")
    token = step_s(H100, profile, Batch(num_decode=1, kv_len=512))
    assert token == pytest.approx(80 * profile.dispatch_layer_s + profile.seq_s, rel=1e-9)  # 80 layers launch it
    more = step_s(H100, profile, Batch(1, 4096))
    bare = step_s(H100, load("none"), Batch(1, 4096))
    assert more > profile.kernel_factor * 0.9 * bare  # a long prompt hides its launches
    none = load("none")
    assert (none.dispatch_layer_s, none.kernel_factor, none.reduce_byte_per_s) == (0.0, 1.0, math.inf)


def test_large_all_reduces_send_no_faster_than_the_stack_does() -> None:
    import dataclasses

    slow = dataclasses.replace(load("none"), reduce_byte=1e6, reduce_byte_per_s=1e9)
    with_term, without = (step_s(H100, profile, Batch(1, 1024)) for profile in (slow, load("none")))
    # 161 all-reduces (two a layer and the embedding's) of 1,024 x 8,192 x 2 B, 2 x 3/4 of it over a link at 1 GB/s
    sent_s = 161 * 1.5 * 1024 * 8192 * 2 / 1e9
    assert sent_s < with_term < sent_s + without


def test_shipped_stack_still_has_the_errors_it_states() -> None:
    from sim.reference.step_fit import cases, errors, fitting, mean_error

    for gpu in ("a100", "h100"):
        profile = load(f"vllm_2023_{gpu}")
        assert profile.fit is not None
        some = cases(folder("serving", "dgx_prompt_token_latency.csv"), profile.device)
        rest = [case for case, here in zip(some, fitting(some), strict=True) if not here]
        found = mean_error(rest, errors(rest, profile))
        for kind in ("prompt", "token"):
            # a calibration of the device that has moved since may shift it by a point; 10 % was set for this stack
            assert found[kind] == pytest.approx(profile.fit.left_out_error[kind], abs=0.01)
            assert found[kind] <= 0.10
        assert np.isfinite(list(found.values())).all()
