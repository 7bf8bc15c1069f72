"""Torch's pipeline CSV: what we write we read, and what torch writes besides computation is left out."""

import pathlib

import pytest

from kernels.errors import InputError
from workloads.pipeline_csv import csv_text, read_csv
from workloads.schedules import catalogue, load


@pytest.mark.parametrize("name", [name for name in catalogue() if name not in ("pipelined-backprop", "zb-exact")])
def test_round_trip(name: str, tmp_path: pathlib.Path) -> None:
    order = load(name).build(4, 8)
    (tmp_path / "order.csv").write_text(csv_text(order))
    assert read_csv(tmp_path / "order.csv") == order


def test_communication_and_idle_cells_are_left_out(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "comms.csv"
    path.write_text("0UNSHARD,0F0,0SEND_F0,,1RECV_B0,0B0,0REDUCE_GRAD\n1RECV_F0,1F0,1B0,1SEND_B0,1RESHARD\n")
    assert [[str(op) for op in ops] for ops in read_csv(path)] == [["F0.0", "B0.0"], ["F1.0", "B1.0"]]


def test_a_bad_cell_names_file_and_line(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("0F0\n1X0\n")
    with pytest.raises(InputError, match=r"bad.csv:2: .*1X0"):
        read_csv(path)
