"""What a device draws awake, busy and at its cap, and a node with everything else in the box.

Two idle figures: `idle_W` is of a sleeping card, as `nvidia-smi` shows it on a machine that nobody uses; `awake_W` of
one that a process holds, between its kernels. Of the power from there to the TDP, kernels draw shares that the meter
knows (`kernels.power` has the law). A file that states no share takes those of `SHARE`: of H100 under vLLM, which
GB200's operators confirm (both files say on what rows and how well).
"""

from dataclasses import dataclass

from hw_models.clock import limit_w
from hw_models.spec import Device, System
from kernels import machine as layout

AWAKE = 0.18  # of the TDP: GB200 206 to 222 W of 1,200; H100 within a few watts
SATURATED = 0.98  # of its limit, what a board that is held at it shows: GB200 1,172 of 1,200 W, H100 686 of 700
SHARE: dict[str, float] = {"busy": 0.59, "product": 0.85, "attention": 1.45, "traffic": 0.1, "link": 0.29}  # H100's
REST_SHARE = 0.09  # watts that the box draws more a watt of its devices: supplies, fans
REST_IDLE = 0.41  # of all that a box may draw beside its devices, what it draws with sleeping ones


@dataclass(frozen=True)
class Draw:
    """Watts of one device. All but the first are above those before it."""

    awake_w: float
    dynamic_w: float  # at the cap, above awake
    busy_w: float  # while a kernel runs
    product_w: float  # at the peak of a tensor pipe
    attention_w: float  # likewise in attention
    traffic_w: float  # at the peak rate of the memory
    link_w: float  # while a collective runs


def draw(device: Device) -> Draw:
    """What a device draws; a power limit lowers the cap alone.

    >>> from hw_models import catalog
    >>> h100 = draw(catalog.device("h100_sxm"))
    >>> catalog.device("h100_sxm").idle_w < h100.awake_w < h100.busy_w
    True
    """
    awake = max(device.idle_w, device.awake_w or AWAKE * device.tdp_w)
    room = device.tdp_w - awake
    share = {name: getattr(device, f"{name}_share") or usual for name, usual in SHARE.items()}
    dynamic = max(SATURATED * limit_w(device) - awake, 0.0)
    return Draw(awake, dynamic, **{f"{name}_w": value * room for name, value in share.items()})


def fill(values: layout.Floats, device: Device) -> None:
    """A device's watts into `values[len(RATES)]`."""
    found = draw(device)
    values[layout.IDLE_W], values[layout.DYNAMIC_W] = found.awake_w, found.dynamic_w
    values[layout.BUSY_W], values[layout.TRAFFIC_W] = found.busy_w, found.traffic_w
    values[layout.PRODUCT_W], values[layout.ATTENTION_W] = found.product_w, found.attention_w
    values[layout.LINK_W] = found.link_w


def rest_w(system: System, device_w: float, num_device: int | None = None) -> float:
    """Watts of all in the box but the devices, while the devices draw `device_w` together: host, switches, ports and
    fans at rest, and what supplies and fans add a watt. The share of `num_device` devices (all where not given)."""
    count = system.num_device if num_device is None else num_device
    node = system.node
    idle_w = node.rest_idle_w or REST_IDLE * node.rest_w
    return idle_w * count / node.num_device + (node.rest_share or REST_SHARE) * device_w


def wall_w(system: System, device_w: float, num_device: int | None = None) -> float:
    """Watts at the wall while the devices draw `device_w` together.

    >>> from hw_models import catalog
    >>> node = catalog.system("hgx_h200")
    >>> 5900 < wall_w(node, 8 * 500.0) < 6500
    True
    """
    return device_w + rest_w(system, device_w, num_device)
