"""`ridgeline offload`: options and files are one thing, what has no effect is refused."""

import json

import pytest

from kernels.errors import InputError
from sim.cli import main
from sim.offload.file import build

FILE = """
model = "opt-6.7b"
prompt = 64
output = 4
batch = 4
num_batch = 2
weight = [0.5, 0.5, 0.0]
cache = [0.0, 1.0, 0.0]
host_attention = true
"""


def test_a_file_and_options_say_the_same(tmp_path) -> None:
    file, first, second = tmp_path / "run.toml", tmp_path / "a.json", tmp_path / "b.json"
    file.write_text(FILE)
    assert main(["offload", str(file), "--json", str(first)]) == 0
    words = "--model opt-6.7b --prompt 64 --output 4 --batch 4 --num-batch 2 --weight 0.5,0.5,0 --cache 0,1,0"
    assert main(["offload", *words.split(), "--host-attention", "--json", str(second)]) == 0
    rows = json.loads(first.read_text())
    assert rows == json.loads(second.read_text())
    assert len(rows["rows"]) == 4
    assert rows["token_per_s"] == pytest.approx(8 * 4 / rows["figures"][2]["value"])


def test_what_has_no_effect_or_is_no_value_is_refused() -> None:
    with pytest.raises(InputError, match="found by the search"):
        build({"find": True, "batch": 4})
    with pytest.raises(InputError, match="prompt"):
        build({"prompt": 0})
    with pytest.raises(InputError, match="wieght"):
        build({"wieght": [1.0, 0.0, 0.0]})
    assert main(["offload", "--weight", "a,b,c"]) == 2
