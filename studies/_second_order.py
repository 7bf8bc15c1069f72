"""Optimizers on whole matrices as operators: products, passes over bytes and traffic of one update of a model.

A product runs as the calibrated kernel of its format. Decompositions (eigenvectors, QR) reach a share of the rate of a
product of their size, as panels that nothing runs beside bound them: whoever uses one says which share.
"""

from collections.abc import Iterable
from typing import NamedTuple

from hw_models import device
from kernels import optable as op
from kernels.collective import collective_s
from kernels.formats import FORMAT_CODE
from sim.training.price import PS, Site
from workloads.models.spec import ModelSpec


class Product(NamedTuple):
    """`times` products of m x k by k x n."""

    m: int
    n: int
    k: int
    times: float = 1.0


def matrices(model: ModelSpec) -> list[tuple[int, int, int]]:
    """(rows, columns, how many) of the weight matrices of the layers: query, key and value as three, others as one."""
    out: list[tuple[int, int, int]] = []
    for index, block in enumerate(model.block):
        a, f, h, count = block.attention, block.ffn, model.hidden, model.layer.count(index)
        out += [(h, a.num_head * a.head_dim, count), (h, a.num_kv_head * a.head_dim, 2 * count),
                (a.num_head * a.v_head_dim, h, count), (h, f.inter, f.num_up * count), (f.inter, h, count)]  # fmt: skip
    return out


def products_s(where: Site, products: Iterable[Product], fmt: str) -> float:
    """Seconds of all of them, one after the other."""
    chosen = [one for one in products if one.times > 0]
    if not chosen:
        return 0.0
    ops, work = op.empty(len(chosen))
    byte = {"fp32": 4.0, "tf32": 4.0}.get(fmt, 2.0)
    for i, one in enumerate(chosen):
        m, n, k = one.m, one.n, one.k
        ops[i]["kind"], ops[i]["fmt"], ops[i]["count"], ops[i]["batch"] = op.GEMM, FORMAT_CODE[fmt], 1, 1
        ops[i]["m"], ops[i]["n"], ops[i]["k"], ops[i]["flop"] = m, n, k, 2.0 * m * n * k
        ops[i]["act_byte"], ops[i]["weight_byte"], ops[i]["write_byte"] = byte * m * k, byte * n * k, byte * m * n
    found = device.cost(ops, work, where.machine)["time_ps"] * PS
    return float(sum(seconds * one.times for seconds, one in zip(found, chosen, strict=True)))


def stream_s(where: Site, byte: float) -> float:
    """Seconds of a pass that moves so many bytes of device memory."""
    return byte / float(where.stack["mem_byte_per_s"])


def exchange_s(where: Site, kind: int, byte: float, num_device: int) -> float:
    """Seconds of a collective over all devices."""
    node = -(-num_device // where.per_node)
    fit = where.machine.fit[kind, FORMAT_CODE["fp32"]]
    return float(collective_s(kind, byte, num_device, node, where.machine.link, fit)[0])
