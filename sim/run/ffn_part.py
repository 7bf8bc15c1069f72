"""The feed-forward side of a scenario: its machine resolved and checked, its memory, rent and network."""

import dataclasses

from hw_models import catalog
from hw_models.clock import limited_system
from hw_models.device import best_fidelity, machine
from hw_models.spec import System
from kernels.errors import InputError
from kernels.machine import LINK_BYTE_PER_S, LINK_OUT
from sim.run.scenario import Scenario
from sim.serving.apart import FfnSide
from workloads import apart
from workloads.formats import Formats
from workloads.models.spec import ModelSpec
from workloads.placement import Placement, divides


@dataclasses.dataclass(frozen=True, repr=False)
class FfnPart(FfnSide):
    """A feed-forward side with the system that it is of and the weights of one of its devices."""

    system: System = dataclasses.field(kw_only=True)
    weight: dict[str, int] = dataclasses.field(kw_only=True)
    num_replica: int = dataclasses.field(default=1, kw_only=True)

    def __repr__(self) -> str:
        return f"<FfnPart of {self.num_device} {self.system.device.name}>"

    @property
    def num_device(self) -> int:
        """Devices of all replicas."""
        return self.placement.stage_device * self.num_replica


def ffn_part(
    scenario: Scenario, model: ModelSpec, formats: Formats, near: System, fidelity: str, share: float, max_token: int
) -> FfnPart:
    """The side of `scenario.ffn_system` for steps of `max_token` tokens, of whose memory the engine takes `share`; an
    `InputError` where the model cannot be laid over two machines, or does not fit."""
    apart.check(model, "ffn_system", scenario.ffn_system)
    node = catalog.system(scenario.ffn_system).node
    placed = apart.ffn_placement(scenario.ffn_tp, scenario.ffn_ep, node.num_device)
    _check_groups(model, placed)
    count = placed.stage_device * scenario.dp
    system = limited_system(catalog.system(scenario.ffn_system, count), scenario.power_limit_W)
    for field, one in (("system", near), ("ffn_system", system)):
        if one.device.pim is not None:
            raise InputError("units in the memory have no part in layers on two machines", field=field,
                             value=one.device.name, allowed="a device without them")  # fmt: skip
    if fidelity == "calibrated" and best_fidelity(system.device) == "sol":
        raise InputError(f"{system.device.name} has no calibration, nor a relative that has", field="fidelity",
                         value="calibrated", allowed="sol")  # fmt: skip
    arrays = machine(system, fidelity, group_size=placed.tp if placed.tp > 1 else None)
    ports = machine(near, "sol")
    for field, one, link in (("system", near, ports.link), ("ffn_system", system, arrays.link)):
        if link[LINK_OUT, LINK_BYTE_PER_S] <= 0:
            raise InputError(f"{one.node.name} has no network ports", field=field, value=one.device.name,
                             allowed="a machine with some")  # fmt: skip
    weight = apart.ffn_weight_byte(model, formats, placed)
    room = (system.device.mem_byte - system.device.mem_reserved_byte) * share
    held = apart.ffn_activation_byte(model, formats, placed, max_token)
    if sum(weight.values()) + held > room:
        raise InputError(
            f"the feed-forward parts of {model.name} do not fit: {sum(weight.values()) / 1e9:.2f} GB of weights and "
            f"{held / 1e9:.2f} GB of activations a device, {room / 1e9:.2f} GB of room", field="ffn_system",
            value=f"{system.device.name}, ffn_tp={placed.tp} ffn_ep={placed.ep}", allowed="more or larger devices",
        )  # fmt: skip
    return FfnPart(arrays, placed, scenario.num_microbatch, system=system, weight=weight, num_replica=scenario.dp)


def one_machine(scenario: Scenario, what: str) -> None:
    """Raise `InputError` where layers are on two machines, of which `what` knows nothing."""
    if scenario.ffn_system:
        raise InputError(f"{what} one machine a replica", field="ffn_system", value=scenario.ffn_system,
                         allowed="empty")  # fmt: skip


def _check_groups(model: ModelSpec, placed: Placement) -> None:
    experts = any(block.ffn.num_expert for block in model.block)
    if placed.ep > 1 and not experts:
        raise InputError(f"{model.name} has no experts", field="ffn_ep", value=placed.ep, allowed="1")
    for block in model.block:
        f = block.ffn
        if f.num_expert:
            divides("ffn_ep", placed.ep, f.num_expert, f"experts of {model.name}")
            divides("ffn_tp", placed.tp, f.expert_inter, f"expert channels of {model.name}")
        else:
            divides("ffn_tp", placed.tp, f.inter, f"feed-forward channels of {model.name}")
