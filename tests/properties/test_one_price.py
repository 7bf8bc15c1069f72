"""The same operator costs the same picoseconds in serving, training, a replayed trace and a study, of any kind."""

from typing import Any

import numpy as np
import pytest

from hw_models import catalog, device
from hw_models.attention_kernels import usual
from hw_models.routes import Routes
from kernels import optable as op
from kernels.formats import FORMAT_CODE, FORMATS
from kernels.gemm import ROW_BYTE_PER_S, ROW_S
from kernels.machine import IDLE_W
from kernels.row_energy import above_awake_j
from sim.trace.chakra_replay import replay_traces
from sim.training.price import row_seconds, site
from sim.training.stack import load_stack
from workloads.chakra import COLLECTIVES, Node, Trace, attributes
from workloads.training_rows import FORWARD, Lowered

SYSTEMS = ("dgx_h100", "dgx_a100", "hgx_b200")
LINKS = {op.ALL_REDUCE: "ALL_REDUCE", op.ALL_GATHER: "ALL_GATHER", op.REDUCE_SCATTER: "REDUCE_SCATTER",
         op.ALL_TO_ALL: "ALL_TO_ALL"}  # fmt: skip


def rows(fmt: str = "bf16") -> tuple[op.OpTable, op.WorkTable]:
    """A row of every kind, of a size that a layer has."""
    ops, work = op.empty(op.NUM_KIND, 1)
    ops["kind"], ops["fmt"], ops["kv_fmt"] = np.arange(op.NUM_KIND), FORMAT_CODE[fmt], FORMAT_CODE["bf16"]
    for name, value in (("m", 4096), ("n", 8192), ("k", 8192), ("num_head", 32), ("num_kv_head", 8), ("head_dim", 128),
                        ("v_head_dim", 128), ("num_expert", 64), ("topk", 4), ("group_size", 8),
                        ("work_stop", 1)):  # fmt: skip
        ops[name] = value
    ops["flop"], ops["link_byte"] = 2.0 * 4096 * 8192 * 8192, 64e6
    ops["act_byte"], ops["write_byte"], ops["weight_byte"], ops["kv_byte"] = 67e6, 67e6, 134e6, 17e6
    ops["phase"] = FORWARD
    work["query_len"] = work["kv_len"] = 4096
    work["causal"] = 1
    return ops, work


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("fmt", ["bf16", "fp8"])
def test_serving_and_training_price_every_kind_alike(system: str, fmt: str) -> None:
    built = catalog.system(system, 8)
    if not built.device.peak(fmt):
        pytest.skip(f"no {fmt} pipe")
    stack = load_stack("megatron-core")
    where = site(built, stack, usual(built.device), fmt)
    ops, work = rows(fmt)
    named = {key: name for key, name in where.other.items() if key[0] == "all_reduce"}
    serving = device.cost(ops, work, device.machine(built, "calibrated", named=named))["time_ps"]
    training = device.cost(ops, work, where.machine)["time_ps"]
    # all but what the site names: FP8 products, whose inputs other rows have narrowed (the next test), and on a B200
    # attention, whose measured kernel is a serving engine's own
    other = {kind for kind, name in where.other if name == fmt} - {"all_reduce"}
    narrows = device.machine(built, "calibrated").fit[op.GEMM, FORMAT_CODE[fmt], ROW_S] > 0  # before it multiplies
    assert other == ({"gemm"} if narrows else set()) | (
        {"attn_prefill", "attn_backward"} if system == "hgx_b200" else set()
    )
    alike = [op.KINDS[kind] not in other for kind in ops["kind"]]
    assert np.array_equal(serving[alike], training[alike])
    assert (serving > 0).all()


@pytest.mark.parametrize("system", ["dgx_h100", "hgx_b200"])
@pytest.mark.parametrize("fmt", ["fp8", "fp8_block", "nvfp4"])
def test_a_narrow_product_of_training_is_the_serving_one_without_its_quantisation(system: str, fmt: str) -> None:
    built = catalog.system(system, 8)
    if not built.device.peak(FORMATS[FORMAT_CODE[fmt]].pipe):
        pytest.skip(f"no {fmt} pipe")
    where = site(built, load_stack("megatron-core"), usual(built.device), fmt)
    ops, work = rows(fmt)
    chosen = ops[ops["kind"] == op.GEMM]
    plain = device.machine(built, "calibrated")
    serving, training = (int(device.cost(chosen, work, m)["time_ps"][0]) for m in (plain, where.machine))
    fit = plain.fit[op.GEMM, FORMAT_CODE[fmt]]
    m, k = int(chosen["m"][0]), int(chosen["k"][0])
    narrowing_s = m * (fit[ROW_S] + 3.0 * k / fit[ROW_BYTE_PER_S]) if fit[ROW_S] > 0 else 0.0
    assert abs(serving - training - round(narrowing_s * 1e12)) <= 1
    assert ("gemm", fmt) in where.other or narrowing_s == 0.0


@pytest.mark.parametrize("system", SYSTEMS)
def test_training_draws_what_serving_draws_for_every_kind(system: str) -> None:
    built = catalog.system(system, 8)
    where = site(built, load_stack("megatron-core"), usual(built.device))
    ops, work = rows()
    cost = device.cost(ops, work, where.machine)
    seconds = cost["time_ps"] * 1e-12
    above = above_awake_j(ops, seconds, np.ones(len(ops)), where.machine)
    joule = where.machine.rate[IDLE_W] * seconds + above
    assert joule == pytest.approx(cost["energy_nj"] * 1e-9, rel=1e-3, abs=2e-9)


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_stack_multiplies_what_the_kernels_cost(system: str) -> None:
    built = catalog.system(system, 8)
    where = site(built, load_stack("megatron-core"), usual(built.device))
    plain = where.stack.copy()
    plain["compute"] = plain["vector"] = plain["clock"] = 1.0
    ops, work = rows()
    cost = device.cost(ops, work, where.machine)
    low = Lowered(ops, work, ("layer",) * len(ops))
    # without factors and at the boost clock a study or a step sums the kernels' own picoseconds
    seconds = row_seconds(low, cost, where._replace(stack=plain))
    assert np.array_equal(np.rint(seconds * 1e12).astype(np.int64), cost["time_ps"])
    slowed = row_seconds(low, cost, where)
    assert (slowed >= seconds * (1 - 1e-12)).all()
    link = np.isin(ops["kind"], (*LINKS, op.P2P, op.TRANSFER, op.DISPATCH, op.COMBINE))
    assert np.array_equal(slowed[link], seconds[link])


def collective_trace(kind: int, byte: float, size: int) -> list[Trace]:
    put_in = int(byte / size) if kind == op.ALL_GATHER else int(byte)
    attr = attributes(comm_type=COLLECTIVES.index(LINKS[kind]), comm_size=put_in)
    return [Trace(node=[Node(0, "sum", "COMM_COLL_NODE", attr=attr)]) for _ in range(size)]


def pair_trace(byte: float) -> list[Trace]:
    names = ("COMM_SEND_NODE", "COMM_RECV_NODE")
    attr: dict[str, Any] = attributes(comm_src=0, comm_dst=1, comm_size=int(byte), comm_tag=0)
    return [Trace(node=[Node(0, "hop", name, attr=attr)]) for name in names]


@pytest.mark.parametrize("system", ["dgx_h100", "dgx_a100"])
@pytest.mark.parametrize("byte", [2.0**16, 2.0**24, 2.0**30])
@pytest.mark.parametrize("kind", [*LINKS, op.P2P])
def test_a_replayed_collective_takes_what_it_costs(system: str, byte: float, kind: int) -> None:
    size = 2 if kind == op.P2P else 8
    built = catalog.system(system, 8)
    where = site(built, load_stack("megatron-core"), usual(built.device))
    ops, work = op.empty(1)
    ops["kind"], ops["fmt"], ops["link_byte"], ops["group_size"] = kind, FORMAT_CODE["bf16"], byte, size
    price = int(device.cost(ops, work, where.machine)["time_ps"][0])
    fit, name = device.library_fit(built)
    assert name == where.inherited
    traces = pair_trace(byte) if kind == op.P2P else collective_trace(kind, byte, size)
    frame, times = replay_traces(traces, Routes(built), fit)
    assert abs(int(times.end_ps.max()) - price) <= 2  # flows are rounded to whole picoseconds one by one
    assert frame["end_s"].max() == pytest.approx(price * 1e-12)


def test_a_replayed_product_is_priced_as_any_other_at_the_speed_of_light() -> None:
    built = catalog.system("dgx_h100", 1)
    for size in (256, 8192):  # bound by memory, and by the cores
        ops, work = op.empty(1)
        ops["fmt"], ops["flop"] = FORMAT_CODE["bf16"], 2.0 * size**3
        for name in ("m", "n", "k"):
            ops[name] = size
        for name in ("weight_byte", "act_byte", "write_byte"):
            ops[name] = 2.0 * size**2
        attr = attributes(is_cpu_op=False, num_ops=2 * size**3, tensor_size=6 * size**2)
        trace = Trace(node=[Node(0, "matmul", attr=attr)])
        _, times = replay_traces([trace], Routes(built), device.library_fit(built)[0], roofline=True)
        assert times.end_ps[0] == device.cost(ops, work, device.machine(built))["time_ps"][0]


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_format_of_a_collective_costs_its_bytes(system: str) -> None:
    built = catalog.system(system, 8)
    where = site(built, load_stack("megatron-core"), usual(built.device))
    ops, work = op.empty(len(FORMATS))
    ops["kind"], ops["fmt"], ops["link_byte"], ops["group_size"] = op.ALL_GATHER, np.arange(len(FORMATS)), 1e8, 8
    assert len(set(device.cost(ops, work, where.machine)["time_ps"].tolist())) == 1
