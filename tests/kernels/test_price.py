"""The price of a table: each row its kernel's price, integers that add, energy, refusals."""

import numpy as np
import pytest

from hw_models import catalog
from hw_models.device import machine
from kernels import optable as op
from kernels.errors import InputError
from kernels.gemm import gemm_s
from kernels.machine import IDLE_W, LINK_W, MEM_BYTE_PER_S, PRODUCT_W, TRAFFIC_W, Machine
from kernels.moe import moe_s
from kernels.optable import OpTable
from kernels.power import operator_j
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
            seconds, ideal_s, bound = gemm_s(int(row["m"]), 4096, 4096, 1, *byte, peak, built.rate, fit)
            work_s, product_w = float(row["flop"]) / peak, float(built.rate[PRODUCT_W])
        else:
            read = float(row["weight_byte"] + row["act_byte"])
            fit = built.fit[op.NORM, BF16]
            byte, work_s, product_w = [read, float(row["write_byte"])], 0.0, 0.0
            seconds, ideal_s, bound = stream_s(float(row["flop"]), *byte, built.rate, fit)
        assert cost["time_ps"][i] == to_ps(seconds)
        energy = operator_j(seconds, ideal_s, bound, work_s, sum(byte), product_w, built.rate)
        assert cost["energy_nj"][i] == pytest.approx(to_nj(energy), abs=1)  # rounding of a sum in another order


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", [op.GEMM, op.NORM, op.MOE, op.ALL_REDUCE, op.ALL_TO_ALL])
def test_a_row_of_no_repetition_costs_nothing_whatever_its_shape(kind: int) -> None:
    """A table keeps rows in their places where they happen no time: then their shapes may hold nothing to divide by."""
    ops = gemms(3)
    row = ops[1]
    row["count"], row["kind"] = 0, kind
    for name in ("m", "n", "flop", "weight_byte", "act_byte", "write_byte"):
        row[name] = 0
    cost = price_table(ops, np.zeros(0, op.WORK_DTYPE), arrays())
    assert cost["time_ps"][1] == cost["energy_nj"][1] == 0
    assert (cost[[0, 2]] == price_table(gemms(3), np.zeros(0, op.WORK_DTYPE), arrays())[[0, 2]]).all()


def test_repetitions_multiply_exactly() -> None:
    once, many = gemms(5), gemms(5)
    many["count"] = 80
    work = np.zeros(0, op.WORK_DTYPE)
    one, all_ = price_table(once, work, arrays()), price_table(many, work, arrays())
    assert (all_["time_ps"] == 80 * one["time_ps"]).all()
    assert (all_["energy_nj"] == 80 * one["energy_nj"]).all()


def test_products_are_held_at_the_cap_and_reads_are_not() -> None:
    """No operator draws full power because it is at its own roof: a stream at the full rate of the memory is far from
    the cap, a product at the tensor peak is at it."""
    built = arrays()
    ops, work = gemms(2), np.zeros(0, op.WORK_DTYPE)
    ops["m"] = 4096
    ops["flop"], ops["act_byte"], ops["write_byte"] = 2.0 * 4096**3, 2.0 * 4096**2, 2.0 * 4096**2
    ops["kind"][1], ops["flop"][1] = op.NORM, 0.0
    cost = price_table(ops, work, built)
    product, stream = cost["energy_nj"] * 1e-9 / (cost["time_ps"] * 1e-12)
    assert 0.95 * 700 < product <= 700  # the datasheet's board power
    assert built.rate[IDLE_W] < stream < 0.85 * product


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
    moved = 2.5 * 2 * (group - 1) / group * 2.0**30 / built.rate[MEM_BYTE_PER_S] / seconds
    watt = float(cost["energy_nj"][0]) / 1e9 / seconds
    drawn = built.rate[IDLE_W] + built.rate[LINK_W] + built.rate[TRAFFIC_W] * moved
    assert watt == pytest.approx(drawn, rel=1e-6)
    assert watt < 450
