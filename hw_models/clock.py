"""What a power limit leaves of the clock: products under a lasting load draw what the board may draw, and no more.

Dynamic power goes with the cube of the clock where voltage follows it (`sim.faults.dvfs`). `boost_W` of a device is the
board power that its matrix products would draw at the boost clock; above the limit the clock falls until they fit:

    clock / boost clock = min(1, ((limit - idle) / (boost - idle)) ^ (1/3))

A benchmark of a few milliseconds runs at the boost clock, a training step at this one. Kernels that memory or links
bound draw less and keep their clock.
"""

from dataclasses import replace

from hw_models.spec import Device, System
from kernels.errors import InputError

CUBE = 3.0


def limit_w(device: Device) -> float:
    """Board power that the device may draw: its limit where one is set, else its TDP."""
    return device.power_limit_w or device.tdp_w


def lasting_clock(device: Device) -> float:
    """Clock under a lasting load of matrix products, as a share of the boost clock; 1 where nothing is known.

    >>> from hw_models import catalog
    >>> h100 = catalog.device("h100_sxm")
    >>> lasting_clock(limited(h100, 400)) < lasting_clock(h100) < 1
    True
    """
    boost = max(device.boost_w or device.tdp_w, device.idle_w)
    if boost <= limit_w(device):
        return 1.0
    return float(((limit_w(device) - device.idle_w) / (boost - device.idle_w)) ** (1 / CUBE))


def capped_clock(device: Device) -> float:
    """Clock under the device's limit relative to that under its TDP: what a cap takes from every calibration, which
    ran without one.

    >>> from hw_models import catalog
    >>> capped_clock(catalog.device("h100_sxm"))
    1.0
    """
    return lasting_clock(device) / lasting_clock(replace(device, power_limit_w=0.0))


def limited(device: Device, power_limit_w: float) -> Device:
    """The device with a power limit (0: none). `InputError` where it is not between idle power and TDP."""
    if power_limit_w and not device.idle_w < power_limit_w <= device.tdp_w:
        raise InputError("not a power limit", field="power_limit_W", value=power_limit_w,
                         allowed=f"above {device.idle_w:g} to {device.tdp_w:g} W")  # fmt: skip
    return replace(device, power_limit_w=power_limit_w)


def limited_system(system: System, power_limit_w: float) -> System:
    """A system whose devices have a power limit; 0: the one that they have, if any."""
    if not power_limit_w:
        return system
    return replace(system, node=replace(system.node, device=limited(system.device, power_limit_w)))
