"""Systolic arrays of a device: shape, number, dataflow, scratchpads and vector units, from a `[npu]` table."""

from dataclasses import dataclass

from hw_models.sourced import Sourced, Table, parse, quantity, si
from kernels.errors import InputError
from kernels.systolic import DATAFLOWS, Measured, Systolic


class NpuTable(Table):
    array_rows: Sourced = quantity(1, 4096, whole=True)
    array_cols: Sourced = quantity(1, 4096, whole=True)
    num_array: Sourced = quantity(1, 4096, whole=True)
    dataflow: str = DATAFLOWS[0]
    clock_MHz: Sourced = quantity(10, 1e4)
    spad_MiB: Sourced = quantity(1e-3, 1e4)
    accum_MiB: Sourced = quantity(1e-3, 1e4)
    vector_lane: Sourced = quantity(1, 1e6, whole=True)
    group_cycle: Sourced = quantity(0, 1e5, absent=0)  # a fit on a cycle-level simulator, where there is one
    block_cycle: Sourced = quantity(0, 1e5, absent=0)
    wide_share: Sourced = quantity(0.01, 1, absent=1)
    narrow_share: Sourced = quantity(0.01, 1, absent=1)
    narrow_byte: Sourced = quantity(0, 1e9, absent=0)
    vector_cycle: Sourced = quantity(0, 1e6, absent=0)
    vector_share: Sourced = quantity(0, 1, absent=1)


EXACT = Measured(0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0)
"""No fit: products as fast as memory and arrays allow."""


@dataclass(frozen=True)
class Npu:
    """Systolic arrays and vector units of one device."""

    rows: int
    cols: int
    num_array: int
    dataflow: str
    clock_hz: float
    spad_byte: int
    accum_byte: int
    vector_lane: int  # all units together
    measured: Measured = EXACT

    @property
    def peak_flop_per_s(self) -> float:
        """Two FLOPs a cell a cycle.

        >>> neupims = Npu(128, 128, 8, "weight_stationary", 1e9, 1 << 20, 1 << 20, 1024)
        >>> round(neupims.peak_flop_per_s / 1e12, 1)
        262.1
        """
        return 2.0 * self.rows * self.cols * self.num_array * self.clock_hz

    def systolic(self, mem_byte_per_s: float, value_byte: int = 2) -> Systolic:
        """As the kernels take it, beside a memory of `mem_byte_per_s` (effective)."""
        return Systolic(
            self.rows, self.cols, self.num_array, DATAFLOWS.index(self.dataflow),
            self.spad_byte, self.accum_byte, value_byte, self.vector_lane, mem_byte_per_s / self.clock_hz,
        )  # fmt: skip


def to_npu(table: NpuTable, file: str) -> Npu:
    """A parsed `[npu]` table in SI units."""
    parse(NpuTable, table.model_dump(), file)  # ranges
    if table.dataflow not in DATAFLOWS:
        raise InputError("no such dataflow", file=file, field="npu.dataflow", value=table.dataflow, allowed=DATAFLOWS)
    return Npu(
        rows=int(table.array_rows.value),
        cols=int(table.array_cols.value),
        num_array=int(table.num_array.value),
        dataflow=table.dataflow,
        clock_hz=si(table, "clock_MHz"),
        spad_byte=int(si(table, "spad_MiB")),
        accum_byte=int(si(table, "accum_MiB")),
        vector_lane=int(table.vector_lane.value),
        measured=Measured(
            table.group_cycle.value, table.block_cycle.value, table.wide_share.value, table.narrow_share.value,
            table.narrow_byte.value, table.vector_cycle.value, table.vector_share.value,
        ),
    )  # fmt: skip
