"""Studies of training: the tables, their verdicts, and the command."""

import json
import pathlib

import pandas as pd
import pytest

from sim.cli import main
from studies import bitpipe, coat, deep_optimizer_states, two_bp, zero_bubble, zero_memory
from studies._table import COLUMNS


def not_reproduced(table: pd.DataFrame) -> list[tuple[str, str, str]]:
    assert tuple(table.columns) == COLUMNS
    failed = table[table["verdict"] != "reproduced"]
    return [(a, b, c) for a, b, c in zip(failed["system"], failed["claim"], failed["setup"], strict=True)]


def test_zero_bubble_to_four_decimals_and_its_headlines() -> None:
    assert not_reproduced(zero_bubble.run(("6.2B", "28.3B"))) == []


def test_zero_memory_is_the_papers_table() -> None:
    assert not_reproduced(zero_memory.run()) == []


def test_bitpipe_gains_where_microbatches_are_few() -> None:
    # with four units of p microbatches its two drains and turns cost more than interleaving saves
    assert not_reproduced(bitpipe.run()) == [
        ("BitPipe", "speedup over the best baseline", "p = 8, m = 32, B = 2F, no hop")
    ]


def test_2bp_cannot_be_scheduling_alone() -> None:
    table = two_bp.run()
    assert {row[0] for row in not_reproduced(table)} == {"2BP, W at the end", "ZB-H1"}
    assert table["simulated"].max() == pytest.approx(1.75)  # 2 - 1/p with no bubble at all


def test_deep_optimizer_states_and_the_case_that_is_not_explained() -> None:
    assert [row[2] for row in not_reproduced(deep_optimizer_states.run())] == ["70B, dp 16"]


def test_coat_states_and_bf16_activations() -> None:
    # what it keeps in 16 bits besides (attention, gate inputs) is not counted, so that we predict more savings
    assert {row[0] for row in not_reproduced(coat.run())} == {"COAT"}


def test_the_command_writes_rows_and_draws(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, plot = tmp_path / "rows.json", tmp_path / "bars.svg"
    assert main(["study", "two-bp", "--json", str(out), "--plot", str(plot)]) == 0
    rows = json.loads(out.read_text())["rows"]
    assert set(rows[0]) == set(COLUMNS)
    assert "<svg" in plot.read_text()
    assert "2BP" in capsys.readouterr().out
    assert main(["study", "two-bp", "--plot", "x.txt"]) == 2
    assert "unknown picture format" in capsys.readouterr().err
