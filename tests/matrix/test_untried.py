"""Three combinations that no paper tried, from the files of docs/studies.md alone."""

import json
import pathlib
import re
from typing import Any

import pytest

from sim.cli import main

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "studies.md"


def said(word: str) -> str:
    """The page's scenario that holds `word`."""
    blocks = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return next(text for text in blocks if word in text)


def run(verb: str, text: str, folder: pathlib.Path) -> dict[str, Any]:
    """What the verb writes of a scenario."""
    (folder / "s.toml").write_text(text)
    assert main([verb, str(folder / "s.toml"), "--json", str(folder / "o.json")]) == 0
    return dict(json.loads((folder / "o.json").read_text()))


def test_speculation_on_units_in_the_memory(tmp_path: pathlib.Path) -> None:
    text = said("duplex_x8")
    plain = "".join(line for line in text.splitlines(keepends=True) if "speculate" not in line)
    drafted, one = (run("simulate", each, tmp_path) for each in (text, plain))
    assert drafted["total_output_tokens"] == one["total_output_tokens"] == 50 * 128
    assert drafted["mean_tpot_ms"] < one["mean_tpot_ms"]  # a sequence a step: verifying reads little more
    committed = 1 + 0.7 + 0.7**2 + 0.7**3 + 0.7**4  # expected of a verification
    assert drafted["spec_decode_acceptance_length"] == pytest.approx(committed, rel=0.05)
    assert drafted["energy_pim_memory_j"] > 0  # experts are read in the memory


def test_shared_prefixes_on_pools_of_two_generations(tmp_path: pathlib.Path) -> None:
    text = said("dgx_a100")
    apart = text.replace("num_system_prompt=2,system_prompt_len=1024,prompt=500", "prompt=1524")
    shared, alone = (run("pools", each, tmp_path) for each in (text, apart))
    assert shared["completed"] == alone["completed"] == 100
    assert shared["mean_ttft_ms"] < 0.6 * alone["mean_ttft_ms"]  # 1,024 of 1,524 tokens are found
    assert shared["mean_tpot_ms"] == pytest.approx(alone["mean_tpot_ms"], rel=0.05)  # as many keys are read


def test_four_bits_with_experts_on_the_host(tmp_path: pathlib.Path) -> None:
    found = run("offload", said("w4a4"), tmp_path)
    figure = {row["figure"]: row["value"] for row in found["figures"]}
    weight = next(row for row in found["placement"] if row["tensor"] == "weight")
    assert weight["device"] + weight["host"] == pytest.approx(1)
    assert weight["host"] * 140e9 / 2 > 70e9 - figure["device memory"] * 1e9  # what the card does not hold, 0.5 B each
    assert figure["replayed / predicted"] == pytest.approx(1, abs=0.02)
