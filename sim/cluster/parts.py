"""From a scenario to a pool: what `simulate` resolves for a replica, as the part of a cluster that it plays."""

from collections.abc import Callable, Iterable

from hw_models.spec import Node
from kernels.errors import InputError
from sim.cluster.pool import PoolPart, Role
from sim.run.profile import profile_of
from sim.run.scenario import Scenario
from sim.run.setup import Setup
from sim.run.simulate import limits_of, policy_of, prepared
from sim.run.step_prices import priced
from sim.serving.plugin import find
from workloads import kv


def pool_part(scenario: Scenario, role: Role, name: str = "", link_byte_per_s: float = 0.0) -> PoolPart:
    """`scenario.dp` engines as a pool of this role; the scenario's load is not looked at.

    An engine's link to the network is its share of its node's ports, or `link_byte_per_s` where given. Raises
    `InputError` for what `simulate` refuses, and for a machine without ports.
    """
    if scenario.lora_rank:
        raise InputError("adapters are fetched by one pool alone", field="lora_rank", value=scenario.lora_rank,
                         allowed="empty")  # fmt: skip
    if scenario.kv_budget:
        raise InputError("a hand-over moves the KV of every token", field="kv_budget", value=scenario.kv_budget,
                         allowed="0")  # fmt: skip
    for field in ("kv_tiers", "kv_evict"):
        if role != "mixed" and (value := getattr(scenario, field)) != Scenario.__dataclass_fields__[field].default:
            raise InputError("prefixes of pools stay in their engines' own memory", field=field, value=value,
                             allowed="the default")  # fmt: skip
    policy, profile = policy_of(scenario), profile_of(scenario)
    setup = prepared(scenario, policy)
    limits = limits_of(setup, profile)
    price, _ = priced(setup, profile, policy, limits)
    devices = setup.placement.num_device // setup.placement.dp
    return PoolPart(
        name or role, role, price, policy, find("router", scenario.router), limits,
        kv_token_byte=kv_byte(setup, kv.token_byte), state_byte=kv_byte(setup, kv.state_byte),
        link_byte_per_s=link_byte_per_s or ports_byte_per_s(setup.system.node, devices),
        num_layer=setup.model.num_layer,
    )  # fmt: skip


def kv_byte(setup: Setup, what: Callable[[Iterable[kv.KvGroup]], float]) -> float:
    """Bytes on all devices of an engine of `what` a hand-over of a prompt moves: a token, windows not yet full, or the
    states of a sequence; a draft model's too."""
    stages = range(setup.placement.pp)
    each = (what(kv.groups(setup.model, setup.formats, setup.placement, stage)) for stage in stages)
    own = sum(each) * setup.placement.tp
    draft = setup.draft
    if draft is None:
        return own
    return own + what(kv.groups(draft.model, draft.formats, draft.placement)) * draft.placement.tp


def ports_byte_per_s(node: Node, num_device: int) -> float:
    """Bytes a second, a direction, of the network ports that `num_device` devices of a node have between them."""
    if node.nic is None or not node.num_nic:
        raise InputError(f"{node.name} has no network ports", field="link_byte_per_s", value=0, allowed="above 0")
    return node.nic.byte_per_s * node.num_nic * num_device / node.num_device
