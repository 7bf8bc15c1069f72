"""Which calibration a device is priced by: its own, else that of its nearest relative, and so on."""

from pathlib import Path

from hw_models import catalog
from hw_models.spec import Device
from kernels.errors import InputError

PROFILES = Path(__file__).parent / "profiles"  # the shipped ones, a folder a device


def own_profile(device: Device) -> str:
    """The `profile` that the device's file names (a path beside that file, or a shipped one), else the shipped profile
    that bears the device's name or an alias of it; "" where there is none."""
    if device.profile:
        beside = Path(device.file).parent / device.profile
        return str(beside) if beside.exists() else device.profile
    return next((name for name in (device.name, *device.alias) if (PROFILES / name).is_dir()), "")


def overlay(device: Device) -> Path | None:
    """The shipped file of what was measured on the device itself, where its relative's profile has the rest."""
    path = PROFILES / f"{device.name}.toml"
    return path if path.is_file() else None


def line(device: Device) -> list[Device]:
    """The device, its relative, the relative's relative, ... until one has a profile of its own or no relative."""
    found = [device]
    while not own_profile(found[-1]) and found[-1].relative:
        last = found[-1]
        nearest = catalog.device(last.relative, catalog.beside_of(Path(last.file)))
        if nearest.name in [other.name for other in found]:
            raise InputError("is its own relative", file=last.file, field="relative", value=last.relative)
        found.append(nearest)
    return found


def calibrated_as(device: Device) -> str:
    """Name of the device whose profile prices this one; "" where neither it nor its relatives have one."""
    last = line(device)[-1]
    return last.name if own_profile(last) else ""
