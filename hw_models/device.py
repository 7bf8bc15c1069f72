"""From a system to the arrays that the kernels take, and the one door to their prices."""

from collections.abc import Mapping

import numpy as np

from hw_models import attention_kernels, dispatch, power, profile, relatives, topology
from hw_models.calibration.inherit import inherited
from hw_models.clock import capped_clock
from hw_models.engine_kernels import with_derived
from hw_models.profile import Profile
from hw_models.spec import Device, System
from kernels import machine as layout
from kernels.collective import COLLECTIVE_FIT
from kernels.errors import InputError
from kernels.formats import FORMAT_CODE, FORMATS
from kernels.machine import Floats, Machine
from kernels.optable import KIND_CODE, CostTable, OpTable, WorkTable
from kernels.price import price_table

FIDELITIES: tuple[str, ...] = ("sol", "calibrated")
LIBRARY = "nccl"  # the name of a library's all-reduce, beside those of serving engines


def machine(
    system: System, fidelity: str = "sol", *, group_size: int | None = None, eager: bool = False,
    named: Mapping[tuple[str, str], str] | None = None,
) -> Machine:  # fmt: skip
    """One device of `system` as arrays.

    `sol`: peak rates and ideal kernels. `calibrated`: the fit of the device's own profile or of its nearest relative
    (see `calibration`). A power limit lowers the clock of matrix products (`hw_models.clock`). `group_size`:
    devices of the largest group inside a node, where the fabric depends on it (bridged pairs, tori). `eager`: kernels
    are launched one by one by the host, not from a CUDA graph. `named`: kernels other than the defaults, by (kind,
    format).

    >>> from hw_models import catalog
    >>> arrays = machine(catalog.system("h100_sxm"))
    >>> round(arrays.peak_flop_per_s.max() / 1e12), round(arrays.rate[0] / 1e9)
    (1979, 3352)
    """
    if fidelity not in FIDELITIES:
        raise InputError("no such fidelity", field="fidelity", value=fidelity, allowed=FIDELITIES)
    device = system.device
    fitted = calibration(device)[0] if fidelity == "calibrated" else None
    rates = rate(device)
    if fitted is not None and device.pim is not None:  # what a fit holds for the pins, timing does for the units
        rates[layout.PIM_BYTE_PER_S] = dispatch.timed_byte_per_s(device.pim)
    return Machine(
        rate=rates,
        peak_flop_per_s=capped_clock(device) * np.array([device.peak(form.pipe) for form in FORMATS]),
        fit=fit_rows(system, fitted, named=named, eager=eager),
        link=topology.link_rows(system, group_size),
        expert=np.zeros((0, len(layout.EXPERT_COLUMNS))),
    )


def fit_rows(
    system: System, fitted: Profile | None, *, named: Mapping[tuple[str, str], str] | None = None, eager: bool = False
) -> Floats:
    """`profile.fit_array` of a profile on this system: a fabric whose switches do not add reduces and multicasts
    nothing, whatever the machine had that the constants come from; at the speed of light one that can does."""
    fit = profile.fit_array(fitted, named=named, eager=eager)
    reduce = fit[KIND_CODE["all_reduce"]]
    if not system.node.switch_adds:
        for name in ("nvls_eff", "switched_max_byte"):
            reduce[:, COLLECTIVE_FIT.index(name)] = 0.0
    elif fitted is None:
        reduce[:, COLLECTIVE_FIT.index("nvls_eff")] = 1.0
    if fitted is not None:  # nobody measured it: the published speeds
        backward = attention_kernels.backward_fit(attention_kernels.usual(system.device), system.device)
        fit[KIND_CODE["attn_backward"]] = backward
    return fit


def library_fit(system: System) -> tuple[Floats, str]:
    """`[NUM_KIND, NUM_FIT]` of collectives as a training job or a trace has them: the library's own, none of a serving
    engine's; and the device that it was calibrated on ("" and ideal ones where nobody calibrated any)."""
    named = {("all_reduce", "bf16"): LIBRARY}
    if best_fidelity(system.device) == "sol":
        return fit_rows(system, None)[:, FORMAT_CODE["bf16"]], ""
    fitted, name = calibration(system.device)
    return fit_rows(system, fitted, named=named)[:, FORMAT_CODE["bf16"]], name


def cost(ops: OpTable, work: WorkTable, arrays: Machine) -> CostTable:
    """Seconds (integer ps), joules (integer nJ), engine and bound of every operator: `[len(ops)]` of `COST_DTYPE`."""
    return price_table(ops, work, arrays)


def rate(device: Device) -> layout.Floats:
    """`rate[len(RATES)]` of a device. A FLOP and a byte carry joules of their own on units in the memory alone; all
    else is watts (`hw_models.power`)."""
    values = np.zeros(len(layout.RATES))
    values[layout.MEM_BYTE_PER_S] = device.mem_byte_per_s
    values[layout.VECTOR_FLOP_PER_S] = device.vector_flop_per_s
    values[layout.NUM_CORE] = device.num_core
    values[layout.CLOCK_HZ] = device.clock_hz
    values[layout.L2_BYTE] = device.l2_byte
    values[layout.L2_BYTE_PER_S] = device.l2_byte_per_s
    power.fill(values, device)
    if device.pim is not None:
        values[layout.PIM_BYTE_PER_S] = device.pim.attention_byte_per_s
        values[layout.PIM_FLOP_PER_S] = device.pim.flop_per_s
        values[layout.PIM_FLOP_J] = device.pim.flop_j
        values[layout.PIM_BYTE_J] = device.pim.read_j_per_byte
    dispatch.fill(values, device, dispatch.own(device))
    return values


def calibration(device: Device) -> tuple[Profile, str]:
    """The profile that a device is priced by, and the name of the device that it was fitted on: its own, else that
    of its nearest relative, and so on, scaled by the datasheets (but for what an overlay has of the device itself).
    `InputError` where none of them has one."""
    line = relatives.line(device)
    own = relatives.own_profile(line[-1])
    if not own:
        raise InputError(
            f"no calibration for {', nor for its relative '.join(held.name for held in line)}",
            file=device.file,
            field="fidelity",
            value="calibrated",
            allowed="sol; or name a profile in the device's file",
        )
    found = inherited(profile.load(own), line[-1], device)
    measured = relatives.overlay(device)
    if measured is not None and not relatives.own_profile(device):
        over = profile.load(measured).kernel
        kinds = {kernel.kind for kernel in over}
        rest = tuple(kernel for kernel in found.kernel if kernel.kind not in kinds)
        found = Profile(device=found.device, kernel=(*rest, *over))
    return with_derived(found, device), line[-1].name


def all_reduce_of(device: Device, name: str) -> dict[tuple[str, str], str]:
    """`named` of `machine` for a serving engine's own all-reduce; empty where the device's calibration has none of that
    name, so that its default stands.

    >>> from hw_models import catalog
    >>> h100, a100 = (catalog.device(name) for name in ("h100_sxm", "a100_sxm_80gb"))
    >>> all_reduce_of(h100, "TRTLLM")["all_reduce", "bf16"], all_reduce_of(a100, "TRTLLM")
    ('TRTLLM', {})
    """
    if not name or calibration(device)[0].find("all_reduce", "bf16", name) is None:
        return {}
    return {("all_reduce", form.name): name for form in FORMATS}


def best_fidelity(device: Device) -> str:
    """`calibrated` where the device or a relative has a profile, else `sol`: roofline always answers."""
    return "calibrated" if relatives.calibrated_as(device) else "sol"


def usable_byte(device: Device, reserve: float = 0.1) -> float:
    """Memory for weights, KV and activations: what the driver leaves, less `reserve` of it (vLLM's
    `gpu_memory_utilization` is `1 - reserve`).

    >>> from hw_models import catalog
    >>> round(usable_byte(catalog.device("h100_sxm")) / 2**30, 1)  # 0.9 x 79.1 GiB
    71.2
    """
    if not 0 <= reserve < 1:
        raise InputError("out of range", field="reserve", value=reserve, allowed="0 to below 1")
    return (device.mem_byte - device.mem_reserved_byte) * (1 - reserve)
