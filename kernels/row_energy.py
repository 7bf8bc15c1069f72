"""Joules of operator rows that take other seconds than their kernels do alone: under a software's factors, under load.

The law is that of `kernels.power`, row by row; with the kernels' own seconds it gives the joules of `kernels.price`
less those of a device that is awake, which a run adds once for all of its time.
"""

import numpy as np
import numpy.typing as npt

from kernels.collective_layout import memory_byte
from kernels.jit import njit
from kernels.machine import ATTENTION_W, DYNAMIC_W, LINK_W, MEM_BYTE_PER_S, PRODUCT_W, TRAFFIC_W, Machine
from kernels.optable import ALL_TO_ALL, COMBINE, DISPATCH, TRANSFER, OpTable
from kernels.power import dynamic_j
from kernels.price import ATTEND, CLASS, LINK, STREAM

Floats = npt.NDArray[np.float64]


@njit
def above_awake_into(ops: OpTable, seconds: Floats, passes: Floats, machine: Machine, out: Floats) -> None:
    """`out[row]` joules of one device above awake, of all repetitions of a row that take `seconds[row]` together;
    `passes[row]` times its bytes are moved (operators that a software leaves unfused)."""
    rate = machine.rate
    for i in range(len(ops)):
        op = ops[i]
        kind, count = op["kind"], float(op["count"])
        group = CLASS[kind]
        if group == LINK:
            if kind == TRANSFER:
                watt, byte = 0.0, op["link_byte"]
            else:
                watt, size = rate[LINK_W], op["group_size"]
                byte = memory_byte(ALL_TO_ALL if kind in (DISPATCH, COMBINE) else kind, op["link_byte"], size)
            drawn = watt * seconds[i] + rate[TRAFFIC_W] * (count * byte / rate[MEM_BYTE_PER_S])
            out[i] = min(rate[DYNAMIC_W] * seconds[i], drawn)
            continue
        byte = count * passes[i] * (op["weight_byte"] + op["act_byte"] + op["kv_byte"] + op["write_byte"])
        work_s, watt = 0.0, 0.0
        if group != STREAM:
            work_s = count * op["flop"] / machine.peak_flop_per_s[op["fmt"]]
            watt = rate[ATTENTION_W] if group == ATTEND else rate[PRODUCT_W]
        out[i] = dynamic_j(seconds[i], work_s, byte, watt, rate)


def above_awake_j(ops: OpTable, seconds: Floats, passes: Floats, machine: Machine) -> Floats:
    """`[len(ops)]` joules above awake; see `above_awake_into`."""
    out = np.zeros(len(ops))
    above_awake_into(ops, np.asarray(seconds, float), np.asarray(passes, float), machine, out)
    return out
