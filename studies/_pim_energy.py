"""Joules of a memory in a decode layer, summed over its commands, with attention at the pins or on units in it."""

import numpy as np
import numpy.typing as npt

from hw_models.memory import Memory, load_memory
from hw_models.spec import Device
from kernels import pim as units
from studies._interleave import Shape

Ints = npt.NDArray[np.int64]
POWER = 4.0  # a PIM activate or column over a normal one's, for each gang and each column (Newton, MICRO 2020)


def layer_j(device: Device, shape: Shape, seq_len: Ints, layer_s: float, *, on_units: bool) -> float:
    """Joules of the memory of one device in a layer that takes `layer_s`: weights read at the pins, KV read at the
    pins or worked on by the units (whose second row buffer adds a standby current as large as the first), refresh
    and standby all the time."""
    memory = load_memory(device.memory)
    read = stream_j(memory, 12.0 * shape.hidden**2 / shape.tp * 2)
    if on_units and device.pim is not None:
        unit = device.pim.kernel()
        read += float((attention_command(unit, shape, seq_len) * unit_command_j(memory)).sum())
    else:
        read += stream_j(memory, float(seq_len.sum()) * shape.hidden / shape.tp * 2 * 2)
    standby = memory.background_w * (2.0 if on_units and device.pim is not None else 1.0)
    dram = memory.dram
    refresh_w = memory.refresh_j * dram.num_rank / (dram.trefi * dram.tck_ps * 1e-12)
    return read + memory.num_channel * layer_s * (standby + refresh_w)


def stream_j(memory: Memory, byte: float) -> float:
    """Joules of reading `byte` in whole rows: a burst each `burst_byte`, an activate each page."""
    return byte / memory.dram.burst_byte * memory.read_j + byte / memory.dram.page_byte * memory.act_j


def unit_command_j(memory: Memory) -> npt.NDArray[np.float64]:
    """Joules of a gang activate (its banks' activates), a column of all banks, a readout and a vector write."""
    dram = memory.dram
    bank = dram.num_rank * dram.num_group * dram.num_bank
    readout = bank * 2 / dram.burst_byte  # a 16-bit result a bank
    write = dram.page_byte / dram.burst_byte
    return np.array([POWER * memory.act_j, POWER * memory.read_j, readout * memory.read_j, write * memory.read_j])


def attention_command(unit: units.PimUnit, shape: Shape, seq_len: Ints) -> npt.NDArray[np.float64]:
    """Gang activates, columns, readouts and vector writes of a batch's attention."""
    total = np.zeros(4)
    head_a_page = max(1, unit.page_value // shape.head_dim)
    columns = -(-shape.head_dim // unit.column_value)
    gang = unit.num_gang * 2  # of both ranks
    for length in seq_len.astype(float):
        chunk, tile = np.ceil(shape.head / head_a_page), np.ceil(length / unit.num_bank)
        total += [chunk * tile * gang, shape.head * tile * columns, shape.head * tile, chunk]
        chunk, tile = np.ceil(length / unit.page_value), np.ceil(shape.head_dim / unit.num_bank)
        work = np.ceil(length / unit.column_value)
        total += [
            gang * shape.head * chunk * tile,
            shape.head * tile * work,
            shape.head * chunk * tile,
            shape.head * chunk,
        ]
    return total
