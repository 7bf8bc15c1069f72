"""Device memory: weights by part, KV, activations, reserve; what does not fit is an error with the budget."""

import math
from dataclasses import dataclass

from kernels.errors import InputError
from workloads import kv
from workloads.formats import Formats
from workloads.kv import KvGroup
from workloads.models import vision
from workloads.models.checkpoint import tensor_byte
from workloads.models.spec import ModelSpec
from workloads.models.tensors import PARTS, Tensor, tensors
from workloads.placement import Placement
from workloads.rows import ceil_div

UNLIMITED = 2**31 - 1  # tokens, where no layer keeps anything a token
UTILIZATION = 0.9  # share of device memory that a serving engine takes (vLLM's default gpu_memory_utilization)
_FORMAT_PART = {part: part for part in ("attention", "mixer", "ffn", "expert", "head", "embedding")}


def weight_byte(model: ModelSpec, formats: Formats, placement: Placement, stage: int) -> dict[str, int]:
    """Weight bytes of one device of a stage by part of the model.

    Tensor parallelism divides projections, experts go over `ep` and `moe_tp`, the vocabulary is padded to a
    multiple of `tp`, key-value heads are replicated where `tp` exceeds them, norms, routers and the latent
    down projections are on every device. Where `formats` are a checkpoint's own, each tensor of each layer has the
    bytes that its modules have there.
    """
    start, stop = placement.stages(model.num_layer)[stage]
    total = dict.fromkeys(PARTS, 0.0)
    if formats.checkpoint is not None:
        for tensor, byte in tensor_byte(model, formats.checkpoint, formats.stored_byte, start, stop).items():
            total[tensor.part] += _shard(tensor, placement) * byte
        return {part: round(byte) for part, byte in total.items()}
    for tensor in tensors(model, start, stop):
        # absorbed latent projections are kept in the activations' format, as the kernels multiply them
        part = "activation" if tensor.name == "kv_b" else _FORMAT_PART.get(tensor.part, "activation")
        total[tensor.part] += _shard(tensor, placement) * tensor.count * formats.weight_byte(part)
    return {part: round(byte) for part, byte in total.items()}


def _shard(tensor: Tensor, placement: Placement) -> float:
    """Values of one copy of a tensor on one device."""
    tp = placement.tp
    if tensor.shard == "tp":
        return tensor.value / tp
    if tensor.shard == "kv":
        return tensor.value / tensor.row * ceil_div(tensor.row, tp)
    if tensor.shard == "expert":
        return tensor.value / placement.stage_device
    if tensor.shard == "vocab":
        return tensor.value / tensor.row * ceil_div(tensor.row, tp)
    return float(tensor.value)


def kv_byte(model: ModelSpec, formats: Formats, placement: Placement, stage: int, length: int) -> float:
    """Bytes that one sequence of `length` tokens keeps on one device of a stage (`workloads.kv`): layers with a
    window at most the window, recurrent layers their state."""
    return kv.sequence_byte(kv.groups(model, formats, placement, stage), length)


def kv_byte_per_token(model: ModelSpec, formats: Formats, placement: Placement, stage: int | None = None) -> float:
    """KV bytes a token on one device, every layer keeping it (the largest stage by default).

    >>> from workloads import models
    >>> kv_byte_per_token(models.load("llama-2-70b"), Formats(), Placement())
    327680.0
    """
    stages = range(placement.pp) if stage is None else [stage]
    return max(kv.token_byte(kv.groups(model, formats, placement, s)) for s in stages)


def activation_byte(
    model: ModelSpec, formats: Formats, placement: Placement, stage: int, num_token: int, num_seq: int,
    sampled_byte: float = 0.0,
) -> float:  # fmt: skip
    """Peak activation bytes of an inference step on one device: of its layers (derivation: tensors alive at the widest
    point) or of its sampler, whichever is more; they follow each other.

    Per token the residual stream and the normalised copy, and the widest of: queries, keys, values and the
    attention's result; up projection and its activation; for experts, `topk` times up projection, activation
    and result over the experts held here. Sampling holds `num_seq` rows of logits at `sampled_byte` an entry (0: in the
    activations' format and in 32 bits).
    """
    start, stop = placement.stages(model.num_layer)[stage]
    tp, byte = placement.tp, formats.act_byte("activation")
    widest = 0.0
    for block in model.num_block(start, stop):
        a, f = block.attention, block.ffn
        head = a.num_head // tp
        query = head * (a.head_dim + a.v_head_dim) + kv.token_value(a, tp)
        dense = (f.num_up + 1) * f.inter / tp
        expert = 0.0
        if f.num_expert:
            pair = placement.attn_dp * f.topk / placement.ep
            expert = pair * ((f.num_up + 1) * f.expert_inter / placement.moe_tp + (f.latent or model.hidden))
        mixer = block.mixer.width / tp if block.mixer is not None else 0.0
        widest = max(widest, query, dense, expert, mixer)
    logit = num_seq * model.vocab * (sampled_byte or byte + 4.0) if stage == placement.pp - 1 else 0.0
    return max(num_token * byte * (2.0 * model.hidden + widest), logit)


@dataclass(frozen=True)
class Budget:
    """Memory of the fullest device (`stage`), bytes; `kv` is what is left for what sequences keep, `group` by which
    rules they keep it, `kv_per_token` what a token takes while no window is full."""

    stage: int
    device: int
    reserve: int
    weight: dict[str, int]
    activation: int
    kv: int
    kv_per_token: float
    context: int
    group: tuple[KvGroup, ...] = ()

    @property
    def token_capacity(self) -> int:
        """Tokens whose KV fits on every device, in sequences of `context` tokens each (0: short ones)."""
        return self.token_capacity_at(self.context)

    def token_capacity_at(self, length: int) -> int:
        """Tokens that fit in sequences of `length` each: windows hold at most the window, and every sequence has its
        states; 0: in sequences that no window cuts, states apart."""
        if all(group.rule == "linear" for group in self.group) or not length:
            return max(0, int(self.kv / self.kv_per_token)) if self.kv_per_token else UNLIMITED
        return max(0, int(self.kv * length / self.sequence_byte(length)))

    def sequence_byte(self, length: int) -> float:
        """Bytes of one sequence of `length` tokens on the fullest device."""
        return kv.sequence_byte(self.group, length)

    def table(self) -> list[tuple[str, int]]:
        """Rows of (what, bytes): device memory, less reserve, weights by part and activations, leaves KV."""
        return [
            ("device memory", self.device),
            ("reserve", self.reserve),
            *((f"weights: {part}", byte) for part, byte in self.weight.items() if byte),
            ("activations", self.activation),
            ("left for KV", self.kv),
        ]

    def line(self) -> str:
        """The table in one line, gigabytes."""
        return ", ".join(f"{what} {byte / 1e9:.2f}" for what, byte in self.table()) + " GB"


@dataclass(frozen=True)
class DraftPart:
    """A draft model that lies on devices of the first stage beside the model's own part."""

    model: ModelSpec
    formats: Formats
    placement: Placement


def budget(
    model: ModelSpec,
    formats: Formats,
    placement: Placement,
    device_byte: float,
    *,
    max_num_token: int = 2048,
    max_num_seq: int = 256,
    context: int = 0,
    utilization: float = UTILIZATION,
    reserve_byte: float = 0.0,
    sampled_byte: float = 0.0,
    draft: DraftPart | None = None,
    kept_token: int = 0,
) -> Budget:
    """The memory budget of the fullest stage; raises `InputError` carrying it where the weights and activations
    leave no room for the KV of one sequence of `context` tokens (0: for one token).

    `max_num_token` and `max_num_seq` (tokens that go through the head) bound a step, `sampled_byte` is of
    `activation_byte`. A `draft` model takes weights and KV of the first stage. A sequence keeps `kept_token` tokens at
    most (0: all). Reserve is what `utilization` leaves, plus `reserve_byte`.
    """
    if not 0 < utilization <= 1:
        raise InputError("not a share", field="utilization", value=utilization, allowed="above 0, at most 1")
    if not device_byte > 0:
        raise InputError("not a memory size", field="device_byte", value=device_byte, allowed="above 0")
    fullest = min(
        (
            _stage_budget(model, formats, placement, s, device_byte, max_num_token, max_num_seq, context, utilization,
                          reserve_byte, sampled_byte, draft if s == 0 else None, kept_token)
            for s in range(placement.pp)
        ),
        key=lambda b: (b.kv / b.sequence_byte(max(1, context)) if b.group else math.inf, b.kv),
    )  # fmt: skip
    need = fullest.sequence_byte(max(1, context))
    if fullest.kv < need:
        raise InputError(
            f"{model.name} does not fit: {fullest.line()} a device of stage {fullest.stage}, one sequence of "
            f"{max(1, context)} tokens needs {need / 1e9:.2f} GB",
            field="placement",
            value=f"tp={placement.tp} pp={placement.pp} ep={placement.ep}",
            allowed="more devices, narrower formats, a shorter context",
        )
    return fullest


def _stage_budget(
    model: ModelSpec,
    formats: Formats,
    placement: Placement,
    stage: int,
    device_byte: float,
    max_num_token: int,
    max_num_seq: int,
    context: int,
    utilization: float,
    reserve_byte: float,
    sampled_byte: float,
    draft: DraftPart | None,
    kept_token: int,
) -> Budget:
    kept = kv.limited(kv.groups(model, formats, placement, stage), kept_token)
    weight = weight_byte(model, formats, placement, stage)
    if model.vision is not None and stage == 0:  # the encoder lies whole on every device of the first stage
        weight["vision"] = round(vision.num_param(model.vision) * formats.act_byte("activation"))
    activation = round(activation_byte(model, formats, placement, stage, max_num_token, max_num_seq, sampled_byte))
    if draft is not None:
        own = (draft.model, draft.formats, draft.placement)
        kept += kv.groups(*own)
        weight["draft model"] = sum(weight_byte(*own, 0).values())
        drafts = activation_byte(*own, 0, max_num_token, max_num_seq, sampled_byte)
        activation = max(activation, round(drafts))
    reserve = round(device_byte * (1 - utilization) + reserve_byte)
    return Budget(
        stage=stage,
        device=round(device_byte),
        reserve=reserve,
        weight=weight,
        activation=activation,
        kv=round(device_byte) - reserve - sum(weight.values()) - activation,
        kv_per_token=kv.token_byte(kept),
        context=context,
        group=kept,
    )


def kv_token_capacity(
    model: ModelSpec, formats: Formats, placement: Placement, device_byte: float, length: int = 0, **limits: float
) -> int:
    """Tokens whose KV fits beside weights and activations. With `length`, of sequences that long, so that
    windowed layers count at most their window. `limits` as in `budget`.

    >>> from workloads import models
    >>> kv_token_capacity(models.load("llama-2-7b"), Formats(), Placement(), 80e9) // 1000
    111
    """
    found = budget(model, formats, placement, device_byte, **limits)  # type: ignore[arg-type]
    if not length:
        return found.token_capacity
    per_sequence = [kv_byte(model, formats, placement, s, length) for s in range(placement.pp)]
    return int(found.kv / max(per_sequence)) * length
