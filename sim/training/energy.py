"""Joules of a training step by the one law of power (`kernels.power`): awake all step long, and what operators draw.

A device is awake for the whole step, waits included; above that its operators draw what they draw in serving, at the
times that the stack gives them. Gradients and weights on their way draw a link kernel's watts where nothing runs
beside them, and the traffic of their bytes wherever they are. No device draws more than its cap.
"""

from typing import NamedTuple

from hw_models.power import rest_w
from kernels.collective_layout import memory_byte
from kernels.machine import BUSY_W, DYNAMIC_W, IDLE_W, LINK_W, MEM_BYTE_PER_S, TRAFFIC_W
from kernels.optable import ALL_GATHER, ALL_REDUCE, REDUCE_SCATTER
from kernels.train_plan import BODY, FIRST, LAST, Record, Records, gathered_byte, update_byte
from sim.training.price import Site


class StepEnergy(NamedTuple):
    """Of one step: joules of all devices, and of the boxes with them; mean watts of a device and of a full node."""

    device_j: float
    wall_j: float
    device_w: float
    node_w: float


def step_energy(
    record: Record, prices: Records, where: Site, step_s: float, update_s: float, exposed_dp_s: float
) -> StepEnergy:
    """Joules of a step of `step_s` seconds under a plan's record; `prices[3]` as `sim.training.price.piece`. The
    update takes `update_s` of each device, and `exposed_dp_s` seconds run data-parallel traffic alone."""
    rate, system = where.machine.rate, where.system
    layers, pp, m = float(record["num_layer"]), float(record["pp"]), float(record["num_microbatch"])
    passes = 0.0
    for name in ("forward_j", "back_j", "again_j"):
        passes += layers * float(prices[BODY][name]) + float(prices[FIRST][name]) + float(prices[LAST][name])
    drawn = m * passes / pp + layers / pp * float(prices[BODY]["update_j"])
    moved = _update_byte(record, prices) + _traffic_byte(record, prices) + _copied_byte(record, prices)
    drawn += rate[BUSY_W] * update_s + rate[LINK_W] * exposed_dp_s + rate[TRAFFIC_W] * moved / rate[MEM_BYTE_PER_S]
    device_w = float(rate[IDLE_W] + min(rate[DYNAMIC_W], drawn / step_s))
    num_device = int(record["tp"] * record["cp"] * record["dp"] * record["pp"])
    per_node = system.node.num_device
    rest = rest_w(system, device_w * num_device, num_device)
    node_w = per_node * device_w + rest_w(system, device_w * per_node, per_node)
    return StepEnergy(device_w * num_device * step_s, (device_w * num_device + rest) * step_s, device_w, node_w)


def _values(record: Record, prices: Records, name: str) -> tuple[float, float]:
    """(dense, expert) values of a mean device."""
    layers, pp = float(record["num_layer"]), float(record["pp"])
    tied = record["tied"] > 0 and pp == 1
    ends = float(prices[FIRST][name]) + (0.0 if tied else float(prices[LAST][name]))
    expert = "expert" if name == "dense" else "trained_expert"
    return (layers * float(prices[BODY][name]) + ends) / pp, layers * float(prices[BODY][expert]) / pp


def _update_byte(record: Record, prices: Records) -> float:
    """Bytes of device memory that the update of a mean device moves."""
    dense, expert = _values(record, prices, "trained")
    shared = record["zero"] >= 1
    state = dense / (record["dp"] * record["cp"] if shared else 1.0) + expert / (record["expert_dp"] if shared else 1.0)
    read, write = update_byte(record, state, state if record["zero"] >= 2 else dense + expert)
    return float(read + write) * (1 - float(record["optimizer_offload"]) * float(record["host_update"] > 0))


def _traffic_byte(record: Record, prices: Records) -> float:
    """Bytes of device memory that the data-parallel traffic of a step moves through a mean device."""
    zero, m = record["zero"], float(record["num_microbatch"])
    groups = (float(record["dp"] * record["cp"]), float(record["expert_dp"]))
    sent = float(record["act_byte"] if zero >= 2 else record["grad_byte"])
    often = m if zero >= 2 and record["keep_gathered"] == 0 else 1.0
    gathers = often * (3.0 if record["recompute"] == 2 else 2.0) if zero >= 3 else 1.0 if zero >= 1 else 0.0
    total = 0.0
    for value, whole, size in zip(
        _values(record, prices, "trained"), _values(record, prices, "dense"), groups, strict=True
    ):
        if size > 1:
            total += often * memory_byte(REDUCE_SCATTER if zero >= 1 else ALL_REDUCE, value * sent, int(size))
            gathered = (whole if zero >= 3 else value) * float(gathered_byte(record))
            total += gathers * memory_byte(ALL_GATHER, gathered, int(size))
    return total


def _copied_byte(record: Record, prices: Records) -> float:
    """Bytes of device memory that copies to and from the host read and write, of a mean device."""
    shares = (record["dp"] * record["cp"], record["expert_dp"]) if record["zero"] >= 3 else (1.0, 1.0)
    body, layers = prices[BODY], float(record["num_layer"]) / float(record["pp"])
    kept = float(body["kept_byte"]) * float(record["act_offload"]) + float(body["away_byte"])
    weights = float(body["dense"]) / float(shares[0]) + float(body["expert"]) / float(shares[1])
    fetched = weights * float(record["weight_byte"] * record["weight_offload"])
    return float(record["num_microbatch"]) * layers * 2 * (kept + fetched)  # out and in; in for both passes
