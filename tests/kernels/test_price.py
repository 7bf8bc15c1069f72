"""The price of a table: each row its kernel's price, integers that add, energy, refusals."""

import numpy as np
import pytest

from hw_models import catalog
from hw_models.device import machine
from kernels import optable as op
from kernels.errors import InputError
from kernels.gemm import gemm_s
from kernels.machine import DYNAMIC_W, IDLE_W, MEM_BYTE_PER_S, Machine
from kernels.moe import moe_s
from kernels.optable import OpTable
from kernels.price import BLOCK, price_table
from kernels.stream import stream_s
from kernels.units import to_nj, to_ps

BF16 = 2


def arrays() -> Machine:
    return machine(catalog.system("dgx_h100"), "sol")


def gemms(count: int) -> OpTable:
    ops, _ = op.empty(count)
    ops["kind"], ops["fmt"], ops["m"], ops["n"], ops["k"] = op.GEMM, BF16, np.arange(1, count + 1), 4096, 4096
    ops["flop"] = 2.0 * ops["m"] * 4096 * 4096
    ops["weight_byte"], ops["act_byte"] = 2.0 * 4096 * 4096, 2.0 * ops["m"] * 4096
    ops["write_byte"] = ops["act_byte"]
    return ops


def test_rows_are_their_kernels_prices_across_blocks() -> None:
    ops, built = gemms(2 * BLOCK + 3), arrays()
    ops["kind"][1::2] = op.NORM  # every second row is a stream instead
    cost = price_table(ops, np.zeros(0, op.WORK_DTYPE), built)
    for i in (0, BLOCK - 1, BLOCK, 2 * BLOCK + 2):
        row = ops[i]
        if row["kind"] == op.GEMM:
            byte = [float(row[name]) for name in ("weight_byte", "act_byte", "write_byte")]
            peak = built.peak_flop_per_s[BF16]
            fit = built.fit[op.GEMM, BF16]
            seconds, ideal_s, _ = gemm_s(int(row["m"]), 4096, 4096, 1, *byte, peak, built.rate, fit)
        else:
            read = float(row["weight_byte"] + row["act_byte"])
            fit = built.fit[op.NORM, BF16]
            seconds, ideal_s, _ = stream_s(float(row["flop"]), read, float(row["write_byte"]), built.rate, fit)
        assert cost["time_ps"][i] == to_ps(seconds)
        energy = seconds * built.rate[IDLE_W] + ideal_s * built.rate[DYNAMIC_W]
        assert cost["energy_nj"][i] == pytest.approx(to_nj(energy), abs=1)  # rounding of a sum in another order


def test_repetitions_multiply_exactly() -> None:
    once, many = gemms(5), gemms(5)
    many["count"] = 80
    work = np.zeros(0, op.WORK_DTYPE)
    one, all_ = price_table(once, work, arrays()), price_table(many, work, arrays())
    assert (all_["time_ps"] == 80 * one["time_ps"]).all()
    assert (all_["energy_nj"] == 80 * one["energy_nj"]).all()


def test_full_use_draws_the_board_power() -> None:
    # a multiply at speed of light: idle and dynamic power over the same time add to the board's 700 W (datasheet)
    ops = gemms(1)
    cost = price_table(ops, np.zeros(0, op.WORK_DTYPE), arrays())
    watt = cost["energy_nj"][0] * 1e-9 / (cost["time_ps"][0] * 1e-12)
    assert watt == pytest.approx(700, rel=1e-3)  # nanojoules of a microsecond: four digits


def test_experts_and_links_have_their_place() -> None:
    ops, _ = op.empty(2)
    ops["kind"], ops["fmt"] = (op.MOE, op.ALL_REDUCE), BF16
    ops["m"], ops["k"], ops["n"], ops["num_expert"], ops["topk"] = 64, 4096, 14336, 8, 2
    ops["link_byte"], ops["group_size"] = 64 * 4096 * 2.0, 8
    built = arrays()
    cost = price_table(ops, np.zeros(0, op.WORK_DTYPE), built)
    fit = built.fit[op.MOE, BF16]
    peak = built.peak_flop_per_s[BF16]
    seconds, _, _ = moe_s(64, 4096, 14336, 8, 2, 1, 1, 0.0, 2.0, 2.0, peak, built.rate, fit)
    assert cost["time_ps"][0] == to_ps(seconds)
    assert cost["engine"].tolist() == [op.ENGINE_TENSOR, op.ENGINE_LINK]
    assert cost["time_ps"][1] > 0


def test_a_format_without_a_pipe_is_refused_with_its_row() -> None:
    ops = gemms(3)
    ops["fmt"][2] = 8  # nvfp4, which an H100 has no pipe for
    with pytest.raises(InputError, match=r"operator 2, gemm.*nvfp4|nvfp4.*operator 2, gemm"):
        price_table(ops, np.zeros(0, op.WORK_DTYPE), arrays())


@pytest.mark.parametrize("group", [4, 8])
def test_a_collective_draws_the_power_of_the_bytes_that_it_moves(group: int) -> None:
    """At the speed of light an all-reduce drew all of an H100's 700 W (698): it keeps no tensor pipe busy."""
    built = arrays()
    ops, work = op.empty(1)
    ops["kind"], ops["link_byte"], ops["group_size"] = op.ALL_REDUCE, 2.0**30, group
    cost = price_table(ops, work, built)
    seconds = float(cost["time_ps"][0]) / 1e12
    moved_s = 2.5 * 2 * (group - 1) / group * 2.0**30 / built.rate[MEM_BYTE_PER_S]
    watt = float(cost["energy_nj"][0]) / 1e9 / seconds
    assert watt == pytest.approx(built.rate[IDLE_W] + built.rate[DYNAMIC_W] * moved_s / seconds, rel=1e-6)
    assert watt < 450
