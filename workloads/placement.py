"""How a model is laid over devices: sizes of the parallel groups, pipeline stages, nodes that a group spans.

Ranks are numbered with tensor parallelism innermost, then attention data parallelism, then pipeline stages,
then replicas: `rank = ((replica * pp + stage) * attn_dp + group) * tp + t`. Experts are sharded over all
`tp * attn_dp` devices of a stage: over experts `ep` ways and inside an expert `moe_tp = tp * attn_dp / ep`
ways, tensor parallelism innermost again.
"""

import itertools
from dataclasses import dataclass

import numpy as np

from kernels.errors import InputError
from kernels.rank_layout import group_node, hop_node
from workloads.models.spec import ModelSpec


@dataclass(frozen=True)
class Placement:
    """Sizes of the groups. `dp` counts independent replicas of the whole model; `attn_dp` counts the attention
    groups inside a replica that hold different sequences and share the experts."""

    tp: int = 1
    pp: int = 1
    dp: int = 1
    ep: int = 1
    attn_dp: int = 1
    sequence_parallel: bool = False  # tokens outside attention and feed-forward split over `tp`
    device_per_node: int = 8
    layer_split: tuple[int, ...] = ()  # layers of each stage; empty: as even as can be

    @property
    def stage_device(self) -> int:
        """Devices of one pipeline stage of one replica."""
        return self.tp * self.attn_dp

    @property
    def replica_device(self) -> int:
        return self.stage_device * self.pp

    @property
    def num_device(self) -> int:
        return self.replica_device * self.dp

    @property
    def moe_tp(self) -> int:
        """Devices that share one expert."""
        return self.stage_device // self.ep

    def stages(self, num_layer: int) -> list[tuple[int, int]]:
        """First and last-plus-one layer of each stage.

        Where `pp` does not divide the layers, stages get one more each, from the last but one backwards: the
        last stage has the LM head and the first the embedding, so they are the last to grow.

        >>> Placement(pp=4).stages(10)
        [(0, 2), (2, 5), (5, 8), (8, 10)]
        """
        split = list(self.layer_split)
        if not split:
            split = [num_layer // self.pp] * self.pp
            order = [*range(self.pp - 2, 0, -1), 0, self.pp - 1] if self.pp > 1 else [0]
            for stage in order[: num_layer % self.pp]:
                split[stage] += 1
        edge = np.concatenate([[0], np.cumsum(split)]).tolist()
        return list(itertools.pairwise(edge))

    def group_node(self, group: str, stage: int = 0) -> int:
        """Nodes that the widest group spans: "tp", "attn_dp", "ep", "expert" (all devices of a stage), "dp",
        or "pp" (a device of `stage` and its neighbour of the next one: 1 or 2).

        >>> Placement(tp=8, pp=2, device_per_node=8).group_node("pp")
        2
        """
        if group == "pp":
            if stage + 1 >= self.pp:
                return 1
            return hop_node(stage, self.pp, self.stage_device, self.device_per_node, self.num_device)
        size, stride = {
            "tp": (self.tp, 1),
            "attn_dp": (self.attn_dp, self.tp),
            "ep": (self.ep, self.moe_tp),
            "expert": (self.stage_device, 1),
            "dp": (self.dp, self.replica_device),
        }[group]
        return group_node(size, stride, self.device_per_node, self.num_device)


def make(
    model: ModelSpec,
    tp: int = 1,
    pp: int = 1,
    dp: int = 1,
    ep: int = 1,
    attn_dp: int | None = None,
    sequence_parallel: bool = False,
    device_per_node: int = 8,
    layer_split: tuple[int, ...] = (),
) -> Placement:
    """A checked placement of a model.

    Without `attn_dp`, an `ep` above `tp` makes `ep / tp` of the `dp` replicas share their experts (attention
    data parallel, experts over all their devices); `dp` is then what is left.

    >>> from workloads import models
    >>> make(models.load("qwen3-30b-a3b"), tp=1, dp=16, ep=16)
    Placement(tp=1, pp=1, dp=1, ep=16, attn_dp=16, ...)
    >>> make(models.load("llama-2-7b"), tp=3)
    Traceback (most recent call last):
    ...
    kernels.errors.InputError: tp = 3: does not divide the 32 attention heads of llama-2-7b; allowed: a divisor of 32
    """
    sizes = {"tp": tp, "pp": pp, "dp": dp, "ep": ep, "device_per_node": device_per_node}
    for field, value in sizes.items() | ({("attn_dp", attn_dp)} if attn_dp is not None else set()):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 1 <= value <= 1_000_000:
            raise InputError("not a group size", field=field, value=value, allowed="whole number 1 to 1000000")
    if attn_dp is None:
        attn_dp = 1
        if ep > tp:
            if ep % tp or dp % (ep // tp):
                raise InputError(
                    f"experts of {model.name} cannot be spread over {dp} x {tp} devices",
                    field="ep",
                    value=ep,
                    allowed=f"at most tp = {tp}, or a multiple of it that divides tp * dp = {tp * dp}",
                )
            attn_dp = ep // tp
            dp //= attn_dp
    placement = Placement(tp, pp, dp, ep, attn_dp, sequence_parallel, device_per_node, tuple(layer_split))
    check(model, placement)
    return placement


def check(model: ModelSpec, placement: Placement) -> None:
    """Raise `InputError` where the model cannot be laid out so."""
    tp, ep = placement.tp, placement.ep
    for block in model.block:
        a, f = block.attention, block.ffn
        divides("tp", tp, a.num_head, f"attention heads of {model.name}")
        if block.mixer is not None:
            divides("tp", tp, block.mixer.num_head, f"heads of recurrent layers of {model.name}")
        if not a.latent and a.num_kv_head % tp and tp % a.num_kv_head:
            raise InputError(
                f"{a.num_kv_head} key-value heads of {model.name} are neither split nor replicated evenly",
                field="tp",
                value=tp,
                allowed=f"a divisor or a multiple of {a.num_kv_head}",
            )
        divides("tp", tp, f.inter, f"feed-forward channels of {model.name}")
        if f.num_expert:
            divides("ep", ep, placement.stage_device, "devices of a stage (tp x attn_dp)")
            divides("ep", ep, f.num_expert, f"experts of {model.name}")
            divides("tp x attn_dp / ep", placement.moe_tp, f.expert_inter, f"expert channels of {model.name}")
    if not any(block.ffn.num_expert for block in model.block):
        for field, value in (("ep", ep), ("attn_dp", placement.attn_dp)):
            if value > 1:
                raise InputError(f"{model.name} has no experts", field=field, value=value, allowed="1")
    if placement.pp > model.num_layer:
        raise InputError(
            f"more stages than layers of {model.name}",
            field="pp",
            value=placement.pp,
            allowed=f"1 to {model.num_layer}",
        )
    split = placement.layer_split
    if split and (len(split) != placement.pp or sum(split) != model.num_layer or min(split) < 1):
        raise InputError(
            f"does not split the layers of {model.name}",
            field="layer_split",
            value=split,
            allowed=f"{placement.pp} numbers above 0 that sum to {model.num_layer}",
        )


def divides(field: str, value: int, whole: int, what: str) -> None:
    """Raise `InputError` on `field` where `value` does not divide the `whole` of `what`."""
    if whole % value:
        raise InputError(
            f"does not divide the {whole} {what}", field=field, value=value, allowed=f"a divisor of {whole}"
        )
