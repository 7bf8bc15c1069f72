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
