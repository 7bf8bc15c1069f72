"""`ridgeline models`."""

import json
import pathlib

import pytest

from sim.cli import main
from workloads import models

LLAMA = pathlib.Path(models.__file__).parent / "configs" / "llama-2-7b.json"


def test_list_and_one(capfd):
    assert main(["models"]) == 0
    listed = capfd.readouterr().out
    assert all(name in listed for name in models.names())
    assert main(["models", "mixtral-8x7b"]) == 0
    assert "46,702,792,704" in capfd.readouterr().out


def test_config_and_json(tmp_path, capfd):
    out = tmp_path / "x.json"
    assert main(["models", "--config", str(LLAMA), "--format", "w4a16:kv=8", "--json", str(out)]) == 0
    row = json.loads(out.read_text())["models"][0]
    assert row["num_param"] == 6_738_415_616
    assert row["kv_byte_per_token"] == 32 * 2 * 4096  # one byte a value
    capfd.readouterr()
    assert main(["models", "gpt2", "--json", "-"]) == 0
    assert json.loads(capfd.readouterr().out)["models"][0]["num_layer"] == 12


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["lama-2-7b"], "nearest: llama-2-7b"),
        (["gpt2", "--config", "x"], "not both"),
        (["--config", "absent.json"], "absent.json: cannot be read"),
        (["gpt2", "--format", "fp9"], "format = 'fp9'"),
        (["gpt2", "--json", "/nowhere/x.json"], "/nowhere/x.json: cannot be written"),
    ],
)
def test_errors_are_one_line(arguments, words, capfd):
    assert main(["models", *arguments]) == 2
    said = capfd.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_check_a_folder(tmp_path, capfd):
    """A line a file, whatever is in it, and the count last."""
    good = json.loads(LLAMA.read_text())
    awq = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}
    files = {
        "a.json": json.dumps(good),
        "b_config.json": json.dumps(good | {"quantization_config": awq}),
        "c.json": "{",
        "d.json": json.dumps(good | {"model_type": "nobody"}),
        "e.json": json.dumps(good | {"quantization_config": {"quant_method": "owq"}}),
        "f_config.json": json.dumps(good),
        "f_hf_quant_config.json": json.dumps({"quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}}),
        "sub/config.json": json.dumps(good),
        "sub/tokenizer.json": "{}",
        "sub/hf_quant_config.json": json.dumps({"quantization": {"quant_algo": "NVFP4"}}),
    }
    (tmp_path / "sub").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    out = tmp_path / "rows.out"
    assert main(["models", "--check", str(tmp_path), "--json", str(out)]) == 0
    said = capfd.readouterr().out.splitlines()
    assert said[-1] == "4 of 7 load"
    assert len(said) == 9
    rows = json.loads(out.read_text())["rows"]
    assert list(rows[0]) == [
        "file", "model_type", "param", "active_param", "weight_byte", "kv_byte_per_token", "state_byte_per_sequence",
        "format", "context", "reason",
    ]  # fmt: skip
    named = {row["file"]: row for row in rows}
    assert sorted(named) == [
        "a.json",
        "b_config.json",
        "c.json",
        "d.json",
        "e.json",
        "f_config.json",
        "sub/config.json",
    ]
    plain = named["a.json"]
    assert (plain["param"], plain["weight_byte"], plain["reason"]) == (6_738_415_616, 2 * 6_738_415_616, None)
    assert (plain["kv_byte_per_token"], plain["state_byte_per_sequence"], plain["format"]) == (524_288, 0, "bf16")
    assert (named["b_config.json"]["format"], named["sub/config.json"]["format"]) == ("w4a16", "nvfp4")
    assert (named["f_config.json"]["format"], named["f_config.json"]["kv_byte_per_token"]) == ("fp8:kv=fp8", 262_144)
    assert named["d.json"]["model_type"] == "nobody"
    for name, words in (("c.json", "is not JSON"), ("d.json", "unknown architecture"), ("e.json", "unknown method")):
        assert words in named[name]["reason"]
        assert named[name]["param"] is None


@pytest.mark.parametrize(
    ("arguments", "words"), [(["--check", "absent"], "no such folder"), (["gpt2", "--check", "."], "--check alone")]
)
def test_check_errors(arguments, words, capfd):
    assert main(["models", *arguments]) == 2
    assert words in capfd.readouterr().err
