"""Where the joules of a run went, by engine and by level of memory, and the power that this is.

What a device draws is in `kernels.power`. Of its joules above idle, bytes at the memory's pins take the memory part's
energy a bit, bytes on links that of a link, and the engine with its caches the rest. Units in the memory state their
joules a byte and a FLOP.
"""

from collections.abc import Sequence

import numpy as np

from hw_models.memory import load_memory
from hw_models.spec import Device
from kernels import optable as op
from kernels.machine import PIM_BYTE_J, PIM_FLOP_J, Machine
from kernels.units import NJ_PER_J, PS_PER_S
from sim.serving.accounts import BYTE, HOST, LINK_BYTE, PIM_BYTE, PIM_FLOP, Accounts

PARTS: dict[str, str] = {
    "idle": "all devices for being awake",
    "xpu": "main engines and their caches",
    "memory": "memory read and written through its pins",
    "pim": "arithmetic of units in the memory",
    "pim_memory": "memory read by those units",
    "link": "links between devices",
}
PIN_PJ_PER_BIT = 3.48  # HBM2 at its pins: O'Connor et al., MICRO 2017; where a device names no memory part
LINK_J_PER_BYTE = 10.4e-12  # NVLink, 1.3 pJ/bit (AttAcc, ASPLOS 2024)


def pin_j_per_byte(device: Device) -> float:
    """Joules of a byte at the pins of a device's memory."""
    bit = load_memory(device.memory).read_pj_per_bit() if device.memory else PIN_PJ_PER_BIT
    return bit * 8e-12


def energy(spent: Accounts, machine: Machine, devices: Sequence[Device]) -> dict[str, float]:
    """Joules of each of `PARTS` over a run (they add up to its energy), under `energy_<part>_j`, and `peak_power_w`:
    of the operator that draws most, on all devices of a stage; of sides that work at the same time, together. `devices`
    are those of the sides, the first of which may have units in its memory (`machine`)."""
    idle_w, device = np.array(spent.side_idle_w), devices[0]
    on_device = (spent.kind != HOST) & (spent.kind != op.TRANSFER)
    time_s, joule = spent.time_ps / PS_PER_S, spent.energy_nj / NJ_PER_J
    idle_j = np.where(on_device, idle_w[spent.side] * time_s, 0.0)
    dynamic_j = np.maximum(joule - idle_j, 0.0)
    amount = spent.amount
    pim_memory_j = amount[:, PIM_BYTE] * machine.rate[PIM_BYTE_J]
    pim_j = amount[:, PIM_FLOP] * machine.rate[PIM_FLOP_J]
    if device.pim is not None and machine.rate[PIM_BYTE_J] + machine.rate[PIM_FLOP_J] <= 0:  # they burn dynamic power
        pim_j = np.where(amount[:, PIM_BYTE] > 0, dynamic_j, 0.0)
    left = np.maximum(dynamic_j - pim_memory_j - pim_j, 0.0)
    pin_j = np.array([pin_j_per_byte(one) for one in devices])[spent.side]
    memory_j = np.minimum(amount[:, BYTE] * pin_j, left)
    link_j = np.minimum(amount[:, LINK_BYTE] * LINK_J_PER_BYTE, left - memory_j)
    total_j = (int(spent.energy_nj.sum()) + spent.idle_nj) / NJ_PER_J
    part = {"memory": memory_j, "pim": pim_j, "pim_memory": pim_memory_j, "link": link_j}
    found = {name: float(values.sum()) for name, values in part.items()}
    found["idle"] = float(idle_j.sum()) + spent.idle_nj / NJ_PER_J
    found["xpu"] = total_j - sum(found.values())
    busy = on_device & (time_s > 0)
    drawn_w = np.divide(joule, time_s, out=np.zeros(len(joule)), where=busy)
    peak_w = sum(max(drawn_w[spent.side == side].max(initial=0.0), w) for side, w in enumerate(idle_w))
    return {f"energy_{name}_j": found[name] for name in PARTS} | {"peak_power_w": float(peak_w)}
