"""Memories of the catalogue: organisation, timing and energy of one channel, and how many there are.

One TOML a part in `hw_models/memory/`, the source of its numbers inside. `load_memory` takes a name of the
catalogue or the path of a file of the same form.
"""

import dataclasses
import pathlib

import numpy as np
import numpy.typing as npt
import pydantic

from hw_models.files import read_toml
from kernels import dram, dram_timing
from kernels.errors import InputError, from_validation

FOLDER = pathlib.Path(__file__).parent / "memory"


class _Table(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, defer_build=True)


class _Organisation(_Table):
    channel: int = pydantic.Field(gt=0)
    rank: int = pydantic.Field(gt=0)
    bank_group: int = pydantic.Field(gt=0)
    bank: int = pydantic.Field(gt=0)
    page_byte: int = pydantic.Field(gt=0)
    bus_bit: int = pydantic.Field(gt=0)
    burst_length: int = pydantic.Field(gt=0)
    transfer_per_clock: int = pydantic.Field(gt=0)
    row_bus: bool
    channel_MiB: int = pydantic.Field(gt=0)


class _Timing(_Table):
    tck_ps: int = pydantic.Field(gt=0)
    tcl: int = pydantic.Field(gt=0)
    tcwl: int = pydantic.Field(gt=0)
    trcdrd: int = pydantic.Field(gt=0)
    trcdwr: int = pydantic.Field(gt=0)
    trp: int = pydantic.Field(gt=0)
    tras: int = pydantic.Field(gt=0)
    trrd_s: int = pydantic.Field(gt=0)
    trrd_l: int = pydantic.Field(gt=0)
    tfaw: int = pydantic.Field(gt=0)
    tccd_s: int = pydantic.Field(gt=0)
    tccd_l: int = pydantic.Field(gt=0)
    trtp: int = pydantic.Field(gt=0)
    twr: int = pydantic.Field(gt=0)
    twtr_s: int = pydantic.Field(gt=0)
    twtr_l: int = pydantic.Field(gt=0)
    trtrs: int = pydantic.Field(ge=0)
    trfc: int = pydantic.Field(gt=0)
    trefi: int = pydantic.Field(gt=0)
    trtw: int | None = pydantic.Field(default=None, gt=0)  # read to write; else CL + burst + tRTRS - CWL


class _Energy(_Table):
    act_nJ: float = pydantic.Field(ge=0)  # ACT and its PRE
    read_nJ: float = pydantic.Field(ge=0)  # a burst
    write_nJ: float = pydantic.Field(ge=0)
    refresh_nJ: float = pydantic.Field(ge=0)  # an all-bank refresh of a rank
    background_mW: float = pydantic.Field(ge=0)  # a channel


class _MemoryFile(_Table):
    name: str
    source: str
    organisation: _Organisation
    timing: _Timing
    energy: _Energy


@dataclasses.dataclass(frozen=True)
class Memory:
    """A memory part: one channel as the kernels take it, the number of channels, energy by command."""

    name: str
    source: str
    num_channel: int
    channel_byte: int
    dram: dram.Dram
    act_j: float
    read_j: float
    write_j: float
    refresh_j: float
    background_w: float  # a channel

    @property
    def peak_byte_per_s(self) -> float:
        """Pin bandwidth of all channels."""
        return self.num_channel * float(dram.peak_byte_per_s(self.dram))

    @property
    def capacity_byte(self) -> int:
        return self.num_channel * self.channel_byte

    def command_j(self) -> npt.NDArray[np.float64]:
        """Joules of each command of `kernels.dram_timing.COMMANDS`, PIM commands at zero: `hw_models.pim` fills
        them, for they depend on the units."""
        joules = np.zeros(dram_timing.NUM_COMMAND)
        joules[dram_timing.ACT] = self.act_j
        joules[dram_timing.RD], joules[dram_timing.WR] = self.read_j, self.write_j
        joules[dram_timing.REF] = self.refresh_j
        return joules

    def read_pj_per_bit(self, row_hit: float = 1.0) -> float:
        """Picojoules a bit read, a share `1 - row_hit` of the bursts opening their own row.

        >>> round(load_memory("hbm3_5200").read_pj_per_bit(), 2)
        3.48
        """
        return (self.read_j + (1.0 - row_hit) * self.act_j) * 1e12 / (8 * self.dram.burst_byte)


def memory_names() -> list[str]:
    """Names of the catalogue.

    >>> "hbm3_6400" in memory_names()
    True
    """
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load_memory(name: str | pathlib.Path) -> Memory:
    """A memory by name or by path of a TOML file."""
    path = pathlib.Path(name)
    if path.suffix != ".toml":
        path = FOLDER / f"{name}.toml"
        if not path.exists():
            raise InputError("no such memory", field="memory", value=str(name), allowed=memory_names())
    try:
        spec = _MemoryFile.model_validate(read_toml(path))
    except pydantic.ValidationError as error:
        fields = [*_Organisation.model_fields, *_Timing.model_fields, *_Energy.model_fields]
        raise from_validation(error, path, fields) from None
    organisation, timing, energy = spec.organisation, spec.timing, spec.energy
    if organisation.burst_length % organisation.transfer_per_clock:
        raise InputError(
            "a burst must last whole clock cycles",
            file=path,
            field="burst_length",
            value=organisation.burst_length,
            allowed=f"a multiple of transfer_per_clock {organisation.transfer_per_clock}",
        )
    burst = organisation.burst_length // organisation.transfer_per_clock
    cycles = timing.model_dump()
    if timing.trtw is None:
        cycles["trtw"] = timing.tcl + burst + max(timing.trtrs, 1) - timing.tcwl
    return Memory(
        name=spec.name,
        source=spec.source.strip(),
        num_channel=organisation.channel,
        channel_byte=organisation.channel_MiB * 2**20,
        dram=dram.Dram(
            num_rank=organisation.rank,
            num_group=organisation.bank_group,
            num_bank=organisation.bank,
            page_byte=organisation.page_byte,
            burst_byte=organisation.bus_bit * organisation.burst_length // 8,
            burst=burst,
            row_bus=int(organisation.row_bus),
            **cycles,
        ),
        act_j=energy.act_nJ * 1e-9,
        read_j=energy.read_nJ * 1e-9,
        write_j=energy.write_nJ * 1e-9,
        refresh_j=energy.refresh_nJ * 1e-9,
        background_w=energy.background_mW * 1e-3,
    )
