"""Units in or under the memory of a device, from a `[pim]` table: where they sit, how fast they read, what they may
overlap with, how commands reach them, what they cost in joules and area.

The bandwidth factor follows from the place of the units and the organisation of the memory part: the units of a
channel (its banks, its bank groups, or the banks that one logic-die read opens at once) each read a column every
`mac` cycles (tCCD_L at banks and under the die, tCCD_S at bank groups), against a burst of the channel's pins.
A device that states its factor (a power limit, a published constant) overrides it.
"""

from dataclasses import dataclass

from hw_models.memory import Memory, load_memory
from hw_models.sourced import Sourced, Table, parse, quantity, si
from kernels.dram import refresh_share
from kernels.dram_timing import PimTiming
from kernels.errors import InputError
from kernels.machine import BESIDES, DISPATCHES
from kernels.pim import PimUnit, request_cycle

UNITS: tuple[str, ...] = ("bank", "bank_group", "logic")
OVERLAPS: tuple[str, ...] = ("blocked", "dual_row_buffer", "bank_bundle")
GRANULARITIES: tuple[str, ...] = ("fine", "composite")


class PimTable(Table):
    unit: str
    overlap: str
    granularity: str = "composite"
    attention: str = "best"  # where decode attention goes (`hw_models.dispatch`)
    expert: str = "best"  # and experts
    beside: str = "nothing"  # what runs side by side in a step
    peak_TFLOPs: Sourced = quantity(1e-4, 1e5)
    bandwidth_factor: Sourced = quantity(0, 1024, absent=0)  # 0: from unit and memory
    bundle_bank: Sourced = quantity(1, 64, whole=True, absent=8)  # logic die: banks of one read
    column_byte: Sourced = quantity(0, 4096, whole=True, absent=0)  # a bank's read a column; 0: a burst
    mac_cycle: Sourced = quantity(0, 64, whole=True, absent=0)  # a column; 0: from unit and memory
    gang_bank: Sourced = quantity(1, 64, whole=True, absent=4)
    act_space_cycle: Sourced = quantity(0, 1000, whole=True, absent=0)  # 0: tFAW
    comp_min: Sourced = quantity(0, 64, whole=True, absent=0)
    readout_cycle: Sourced = quantity(0, 1000, whole=True, absent=2)
    issue_cycle: Sourced = quantity(0, 1000, whole=True, absent=0)  # one queue for all channels; 0: a queue a channel
    extra_cycle: Sourced = quantity(0, 1000, whole=True, absent=0)
    tile_min_cycle: Sourced = quantity(0, 10000, whole=True, absent=0)
    gwrite_cycle: Sourced = quantity(0, 10000, whole=True, absent=0)
    handover_cycle: Sourced = quantity(0, 100000, whole=True, absent=0)  # logits to attends: the last softmax
    npu_share: Sourced = quantity(0.01, 1, absent=1)  # speed of the other engine while the units work
    pim_share: Sourced = quantity(0.01, 1, absent=1)  # speed of the units while the other engine works
    sub_batch_from: Sourced = quantity(0, 1e6, whole=True, absent=0)  # batch that turns sub-batches on; 0: never
    num_section: Sourced = quantity(0, 1024, whole=True, absent=0)  # of memory, owned by one engine at a time; 0: none
    lookup_share: Sourced = quantity(0.01, 1, absent=1)  # of the bandwidths that the experts' look-up counts on
    read_pJ_per_bit: Sourced = quantity(0, 100, absent=0)
    flop_pJ: Sourced = quantity(0, 100, absent=0)
    area_mm2: Sourced = quantity(0, 1e4, absent=0)  # a stack
    area_percent: Sourced = quantity(0, 100, absent=0)  # of the die that holds the units


@dataclass(frozen=True)
class Pim:
    """PIM of one device, in SI units; `*_cycle` are cycles of the memory clock."""

    unit: str
    overlap: str
    granularity: str
    attention: str
    expert: str
    beside: str
    memory: Memory
    num_channel: int  # of the device
    flop_per_s: float
    bandwidth_factor: float
    byte_per_s: float  # inside, all units
    column_byte: int
    mac_cycle: int
    gang_bank: int
    act_space_cycle: int
    comp_min: int
    readout_cycle: int
    issue_cycle: int
    extra_cycle: int
    tile_min_cycle: int
    gwrite_cycle: int
    handover_cycle: int
    npu_share: float
    pim_share: float
    sub_batch_from: int
    num_section: int
    lookup_share: float
    read_j_per_byte: float
    flop_j: float
    area_mm2: float
    area_share: float

    @property
    def op_per_byte(self) -> float:
        """Ridge point: FLOPs a byte at which compute and bandwidth of the units balance."""
        return self.flop_per_s / self.byte_per_s

    @property
    def attention_byte_per_s(self) -> float:
        """Bandwidth that decode attention gets: that of the units, or, where the device states its vector writes, that
        of whole row tiles (activates, readout) for 8 heads of 128 at 1,024 tokens."""
        if self.gwrite_cycle == 0:
            return self.byte_per_s
        cycle = request_cycle(self.kernel(), 1024, 1, 8, 8, 128)
        return 2 * 1024 * 8 * 128 * 2 * self.num_channel / (cycle * self.memory.dram.tck_ps * 1e-12)

    @property
    def stream_share(self) -> float:
        """Share of `byte_per_s` that the units get from one row after another of the same banks: banks of a unit's read
        open and close together, so that nothing hides tRCD, tRTP and tRP, and refresh takes its time.

        >>> from hw_models import catalog
        >>> round(catalog.device("duplex").pim.stream_share, 3)  # 128 of 170 cycles, 94.9 % between refreshes
        0.714
        """
        dram = self.memory.dram
        columns = dram.page_byte // self.column_byte
        row = dram.trcdrd + (columns - 1) * self.mac_cycle + dram.trtp + dram.trp
        return float(refresh_share(dram)) * columns * self.mac_cycle / max(row, columns * self.mac_cycle)

    def kernel(self, value_byte: int = 2) -> PimUnit:
        """As `kernels.pim` takes it."""
        dram = self.memory.dram
        bank = dram.num_rank * dram.num_group * dram.num_bank
        return PimUnit(
            num_channel=self.num_channel,
            num_bank=bank,
            page_value=dram.page_byte // value_byte,
            column_value=self.column_byte // value_byte,
            num_gang=max(1, dram.num_group * dram.num_bank // self.gang_bank),
            act_space=self.act_space_cycle,
            trcd=dram.trcdrd,
            close=dram.trtp - self.mac_cycle + dram.trp,
            mac=self.mac_cycle,
            comp_min=self.comp_min,
            readout=self.readout_cycle,
            fine=int(self.granularity == "fine"),
            issue=self.issue_cycle,
            extra=self.extra_cycle,
            tile_min=self.tile_min_cycle,
            gwrite=self.gwrite_cycle,
            handover=self.handover_cycle,
        )

    def timing(self) -> PimTiming:
        """As the command-level channel takes it."""
        return PimTiming(
            dual=int(self.overlap == "dual_row_buffer"),
            pact_space=self.act_space_cycle,
            mac=self.mac_cycle,
            comp_min=max(1, self.comp_min),
            gwrite=max(1, self.gwrite_cycle),
        )


def to_pim(table: PimTable, memory: str, mem_byte_per_s: float, file: str) -> Pim:
    """A parsed `[pim]` table beside the device's memory part and pin bandwidth."""
    parse(PimTable, table.model_dump(), file)  # ranges
    for field, value, allowed in (
        ("unit", table.unit, UNITS),
        ("overlap", table.overlap, OVERLAPS),
        ("granularity", table.granularity, GRANULARITIES),
        ("attention", table.attention, tuple(name for name in DISPATCHES if name != "co_process")),
        ("expert", table.expert, DISPATCHES),
        ("beside", table.beside, BESIDES),
    ):
        if value not in allowed:
            raise InputError(f"no such {field}", file=file, field=f"pim.{field}", value=value, allowed=allowed)
    if table.overlap == "blocked" and (table.beside != "nothing" or table.expert == "co_process"):
        raise InputError(
            "units that block the xPU run nothing beside it", file=file, field="pim.overlap", value=table.overlap,
            allowed="dual_row_buffer or bank_bundle; or another dispatch",
        )  # fmt: skip
    if not memory:
        raise InputError("units in the memory need its part", file=file, field="memory", value="", allowed="a memory")
    part = load_memory(memory)
    dram = part.dram
    column_byte = int(table.column_byte.value) or dram.burst_byte
    spacing = {"bank": dram.tccd_l, "bank_group": dram.tccd_s, "logic": dram.tccd_l}[table.unit]
    mac = int(table.mac_cycle.value) or max(spacing, 1)
    num_unit = {
        "bank": dram.num_rank * dram.num_group * dram.num_bank,
        "bank_group": dram.num_rank * dram.num_group,
        "logic": int(table.bundle_bank.value),
    }[table.unit]
    derived = (num_unit * column_byte / mac) / (dram.burst_byte / dram.burst)
    factor = table.bandwidth_factor.value or derived
    return Pim(
        unit=table.unit,
        overlap=table.overlap,
        granularity=table.granularity,
        attention=table.attention,
        expert=table.expert,
        beside=table.beside,
        memory=part,
        num_channel=max(1, round(mem_byte_per_s / (dram.burst_byte / (dram.burst * dram.tck_ps * 1e-12)))),
        flop_per_s=si(table, "peak_TFLOPs"),
        bandwidth_factor=factor,
        byte_per_s=factor * mem_byte_per_s,
        column_byte=column_byte,
        mac_cycle=mac,
        gang_bank=int(table.gang_bank.value),
        act_space_cycle=int(table.act_space_cycle.value) or dram.tfaw,
        comp_min=int(table.comp_min.value),
        readout_cycle=int(table.readout_cycle.value),
        issue_cycle=int(table.issue_cycle.value),
        extra_cycle=int(table.extra_cycle.value),
        tile_min_cycle=int(table.tile_min_cycle.value),
        gwrite_cycle=int(table.gwrite_cycle.value),
        handover_cycle=int(table.handover_cycle.value),
        npu_share=table.npu_share.value,
        pim_share=table.pim_share.value,
        sub_batch_from=int(table.sub_batch_from.value),
        num_section=int(table.num_section.value),
        lookup_share=table.lookup_share.value,
        read_j_per_byte=table.read_pJ_per_bit.value * 8e-12,
        flop_j=table.flop_pJ.value * 1e-12,
        area_mm2=table.area_mm2.value,
        area_share=table.area_percent.value / 100,
    )
