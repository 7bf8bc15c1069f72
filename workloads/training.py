"""What is to be trained and how it is laid out: a plan, checked against its model."""

from dataclasses import dataclass, replace

from kernels.errors import InputError
from kernels.train_plan import ATTENTIONS, RECOMPUTES
from workloads.compression import hook
from workloads.models.plain import refuse_unusual
from workloads.models.spec import ModelSpec
from workloads.optimizers import optimizer

DP_TRAFFICS = ("fitted", "scheduled")
MODULES = (
    "core_attn",
    "mla_up_proj",
    "norm",
    "activation",
    "attention",
    "mlp",
    "moe",
)  # parts of a layer that can be recomputed
DISPATCHES = ("alltoall", "deepep")
_LEAST_BYTE, MOST_SIZE_BYTE = 1 / 8, 64.0  # a value: a bit, and more than any format and its states take
RATES = ("offload_write_byte_per_s", "offload_read_byte_per_s", "sample_byte", "loader_byte_per_s")


@dataclass(frozen=True)
class TrainPlan:
    """Sizes of the groups, the batch, and what is kept in which width. Ranks: tensor parallelism innermost, then
    context, then data parallelism, pipeline stages outermost; experts are spread over data parallel ranks."""

    tp: int = 1
    pp: int = 1
    dp: int = 1
    cp: int = 1  # context parallelism: ranks that share a sequence
    ep: int = 1
    micro_batch: int = 1
    batch: int = 1  # sequences a step
    seq: int = 2048
    schedule: str = "1f1b"
    interleave: int = 1  # chunks a rank
    sequence_parallel: bool = False
    recompute: str = "none"
    zero: int = 0  # 1: optimizer states, 2: and gradients, 3: and weights (FSDP) are split over data parallel ranks
    attention: str = "flash2"
    fused_norm: bool = False
    weight_byte: float = 2.0  # a value
    act_byte: float = 2.0
    gather_byte: float = 0.0  # a value of weights on their way to all replicas (FP8: 1); 0: `act_byte`
    grad_byte: float = 4.0
    optimizer_byte: float = 12.0  # fp32 master, momentum, variance (8-bit states: 6)
    skew: float = 0.0  # exponent of the load law of the experts (`kernels.moe_load`)
    dropout: bool = False
    act_offload: float = 0.0  # share of the kept activations that goes to host memory or storage and back
    backward_chunk: int = 1  # parts of the sequence that recomputation and backward are done in, one after the other
    ulysses: bool = False  # context parallelism by exchanging heads for tokens; else keys and values go round a ring
    tp_overlap: float = 0.0  # share of tensor-parallel communication that hides under the other half of the batch
    dp_traffic: str = "fitted"  # data-parallel traffic: the stack's exposed share, or replayed beside the schedule
    keep_gathered: bool = False  # ZeRO 2, 3: gather and scatter once for a run of operations on a chunk, not every pass
    offload_write_byte_per_s: float = 0.0  # channel that offloaded activations take, as of NVMe drives; 0: host memory
    offload_read_byte_per_s: float = 0.0
    whole_hop: bool = False  # every tensor-parallel rank sends all of the activations to the next stage, not its share
    blocking_hop: bool = False  # a stage waits for its own transfers, as Megatron-LM before it sent beside compute
    weight_offload: float = 0.0  # share of the weights that lives in host memory and is fetched for each pass
    optimizer_offload: float = 0.0  # share of the optimizer states that lives there and is fetched for the update
    host_update: bool = False  # that share is updated there: gradients go out, new weights come back
    global_balance: bool = False  # the balancing loss counts expert loads over the whole batch: an all-reduce a layer
    compression: str = "none"  # hook on the gradient reduction (`workloads.compression`)
    compression_rank: int = 4  # of powersgd
    sample_byte: float = 0.0  # bytes that loading a sequence reads
    loader_byte_per_s: float = 0.0  # rate of one replica's loaders; 0: a device's host link
    gather_limit: int = 2  # FSDP's rate limiter: layers gathered ahead and at work at most; 1: no prefetch, 0: no limit
    logit_chunk: int = 1  # parts of the sequence that the head and the loss are done in
    mtp: int = 0  # heads that predict further tokens: a layer, a projection of two streams and a loss each, on the end
    lora_rank: int = 0  # of adapters beside every linear map, which alone are trained; 0: everything is
    fused_loss: bool = True  # cross entropy in one kernel that keeps no fp32 copy of the logits
    gather_logits: bool = False  # every tensor-parallel rank computes its loss on the logits of the whole vocabulary
    hold_logits: bool = False  # logits stay until the backward pass has ended
    regather: bool = True  # sequence parallelism keeps a rank's own tokens and gathers them again for backward
    fused_accumulation: bool = True  # gradients are added by the products that make them, not in a pass of their own
    optimizer: str = "adam"  # of `workloads.optimizers`; its products on matrices are done once in `refresh` steps
    refresh: int = 1
    policy: tuple[tuple[str, str, float], ...] = ()  # (tensor, action, share) of kept activations, by name
    layout: tuple[int, ...] = ()  # layers of each stage in the order of the model; none: as evenly as it goes
    etp: int = 0  # tensor parallelism of the experts; 0: that of the layer where `ep` fits beside it, else 1
    dispatch: str = "alltoall"  # a copy of a token for each of its experts; "deepep": one for each rank that has any
    dispatch_byte: float = 0.0  # a value on its way to the experts; 0: `act_byte`
    node_limit: int = 0  # nodes at most that a token is sent to (DeepSeek-V3: 4); 0: any
    ep_overlap: float = 0.0  # share of dispatch and combine under another microbatch's compute

    @property
    def num_device(self) -> int:
        return self.tp * self.pp * self.dp * self.cp

    @property
    def expert_tp(self) -> int:
        """Devices that share an expert."""
        if self.etp:
            return self.etp
        return self.tp if (self.dp * self.cp) % self.ep == 0 else 1

    @property
    def expert_dp(self) -> int:
        """Copies of every expert: what dp x cp x tp leaves beside `ep` and the experts' own tensor parallelism."""
        return max(1, self.tp * self.cp * self.dp // (self.ep * self.expert_tp))

    @property
    def num_microbatch(self) -> int:
        return self.batch // (self.dp * self.micro_batch)

    @property
    def token(self) -> int:
        """Tokens a step."""
        return self.batch * self.seq


MOST_SIZE = dict.fromkeys(("tp", "pp", "dp", "cp", "ep", "interleave"), 1 << 20) | {
    "micro_batch": 1 << 24, "batch": 1 << 24, "seq": 1 << 24,
}  # fmt: skip
"""Above every machine that was built and every batch and context that was published."""


def check_sizes(plan: TrainPlan) -> None:
    """Raise `InputError` for a size or a width that cannot be, whatever the model."""
    for field, most in MOST_SIZE.items():
        value = getattr(plan, field)
        if not 1 <= value <= most:
            raise InputError("too small" if value < 1 else "too large", field=field, value=value,
                             allowed=">= 1" if value < 1 else f"1 to {most}")  # fmt: skip
    for field in ("weight_byte", "act_byte", "grad_byte", "optimizer_byte"):
        value, least = getattr(plan, field), 0.0 if field == "optimizer_byte" else _LEAST_BYTE
        if not least <= value <= MOST_SIZE_BYTE:
            raise InputError("out of range", field=field, value=value, allowed=f"{least:g} to {MOST_SIZE_BYTE:g}")
    for field in RATES:
        if not 0 <= getattr(plan, field) < float("inf"):
            raise InputError("out of range", field=field, value=getattr(plan, field), allowed=">= 0")
    if plan.gather_byte and not _LEAST_BYTE <= plan.gather_byte <= MOST_SIZE_BYTE:
        raise InputError("out of range", field="gather_byte", value=plan.gather_byte, allowed=f"to {MOST_SIZE_BYTE:g}")
    if not 0 <= plan.skew <= 4:
        raise InputError("out of range", field="skew", value=plan.skew, allowed="0 to 4")


def check_effect(plan: TrainPlan) -> None:
    """Raise `InputError` for what was chosen but can change nothing in this plan. The command line asks; plans that a
    search or a study varies may hold such a choice."""
    idle = {
        "sequence_parallel": (plan.sequence_parallel and plan.tp == 1, "needs tp > 1"),
        "zero": (plan.zero > 0 and plan.dp * plan.cp == 1, "needs replicas to divide the states over: dp or cp > 1"),
        "ulysses": (plan.ulysses and plan.cp == 1, "needs cp > 1"),
        "tp_overlap": (plan.tp_overlap > 0 and plan.tp == 1, "needs tp > 1"),
        "compression": (plan.compression != "none" and plan.dp * plan.cp == 1, "needs replicas: dp or cp > 1"),
        "interleave": (plan.interleave > 1 and plan.pp == 1, "needs pp > 1"),
        "dispatch": (plan.dispatch != TrainPlan.dispatch and plan.ep == 1, "needs ep > 1"),
        "whole_hop": (plan.whole_hop and (plan.tp == 1 or plan.pp == 1 or plan.sequence_parallel),
                      "needs tp > 1, pp > 1 and no sequence_parallel"),
        "blocking_hop": (plan.blocking_hop and plan.pp == 1, "needs pp > 1"),
        "offload_write_byte_per_s": (plan.offload_write_byte_per_s > 0 and plan.act_offload == 0,
                                     "needs act_offload > 0"),
        "offload_read_byte_per_s": (plan.offload_read_byte_per_s > 0 and plan.act_offload == 0,
                                    "needs act_offload > 0"),
        "loader_byte_per_s": (plan.loader_byte_per_s > 0 and plan.sample_byte == 0, "needs sample_byte > 0"),
        "compression_rank": (plan.compression_rank != TrainPlan.compression_rank and plan.compression != "powersgd",
                             "needs compression = powersgd"),
        "fused_accumulation": (not plan.fused_accumulation and plan.zero >= 2, "needs ZeRO 0 or 1"),
        "host_update": (plan.host_update and plan.optimizer_offload == 0, "needs optimizer_offload > 0"),
        "gather_byte": (plan.gather_byte > 0 and plan.zero == 0, "needs ZeRO"),
        "refresh": (plan.refresh > 1 and not optimizer(plan.optimizer).rounds, "needs an optimizer with products"),
        "etp": (plan.etp > 0 and plan.ep == 1, "needs ep > 1"),
        "node_limit": (plan.node_limit > 0 and plan.dispatch != "deepep", "needs dispatch = deepep"),
        "dispatch_byte": (plan.dispatch_byte > 0 and plan.ep == 1, "needs ep > 1"),
        "ep_overlap": (plan.ep_overlap > 0 and plan.ep == 1, "needs ep > 1"),
        "gather_limit": (plan.gather_limit != TrainPlan.gather_limit and plan.zero < 3, "needs ZeRO 3"),
    }  # fmt: skip
    for field, (useless, why) in idle.items():
        if useless:
            raise InputError(f"has no effect: {why}", field=field, value=getattr(plan, field))


def check(model: ModelSpec, plan: TrainPlan) -> None:
    """Raise `InputError` where the model cannot be trained so."""
    refuse_unusual(model, "training")
    check_sizes(plan)
    choices = (("attention", ATTENTIONS), ("dp_traffic", DP_TRAFFICS), ("dispatch", DISPATCHES))
    for field, allowed in choices:
        if getattr(plan, field) not in allowed:
            raise InputError("unknown", field=field, value=getattr(plan, field), allowed=allowed)
    optimizer(plan.optimizer)
    if plan.refresh < 1:
        raise InputError("too small", field="refresh", value=plan.refresh, allowed=">= 1")
    for name in () if plan.recompute in RECOMPUTES else plan.recompute.split("+"):
        if name not in MODULES:
            raise InputError("unknown", field="recompute", value=name, allowed=(*RECOMPUTES, *MODULES))
    if plan.layout:
        check_layout(model, plan)
    if not 0 <= plan.mtp <= model.num_layer:
        raise InputError("out of range", field="mtp", value=plan.mtp, allowed=f"0 to {model.num_layer}")
    if plan.gather_limit < 0:
        raise InputError("too small", field="gather_limit", value=plan.gather_limit, allowed=">= 0")
    if plan.keep_gathered and (plan.dp_traffic != "scheduled" or plan.zero < 2):
        raise InputError("needs ZeRO 2 or 3 and dp_traffic = scheduled", field="keep_gathered", value=True)
    if plan.zero not in (0, 1, 2, 3):
        raise InputError("no such ZeRO stage", field="zero", value=plan.zero, allowed=["0", "1", "2", "3"])
    if plan.compression != "none" and plan.zero > 0:
        raise InputError("hooks are on the all-reduce of whole gradients", field="compression", value=plan.compression,
                         allowed="zero = 0")  # fmt: skip
    hook(plan.compression, model.hidden, plan.grad_byte, plan.compression_rank)
    heads = min(block.attention.num_head for block in model.block)
    if heads % plan.tp:
        raise InputError(
            "does not divide the attention heads", field="tp", value=plan.tp, allowed=f"divisors of {heads}"
        )
    if plan.batch % (plan.dp * plan.micro_batch):
        raise InputError(
            "does not divide by dp x micro_batch",
            field="batch", value=plan.batch, allowed=f"multiples of {plan.dp * plan.micro_batch}",
        )  # fmt: skip
    # embedding and head may be chunks of their own (126 layers in 128 slots)
    most = model.num_layer if plan.interleave == 1 else model.num_layer + 2
    if plan.pp * plan.interleave > most and not plan.layout:
        raise InputError("more chunks than layers", field="pp", value=plan.pp * plan.interleave,
                         allowed=f"<= {most}")  # fmt: skip
    if plan.seq % plan.cp:
        raise InputError("does not divide the sequence", field="cp", value=plan.cp, allowed=f"divisors of {plan.seq}")
    for field in ("act_offload", "tp_overlap", "ep_overlap", "weight_offload", "optimizer_offload"):
        if not 0 <= getattr(plan, field) <= 1:
            raise InputError("out of range", field=field, value=getattr(plan, field), allowed="0 to 1")
    for field in ("backward_chunk", "logit_chunk"):
        if not 1 <= getattr(plan, field) <= plan.seq:
            raise InputError("out of range", field=field, value=getattr(plan, field), allowed=f"1 to {plan.seq}")
    if plan.backward_chunk > 1 and plan.recompute != "full":
        raise InputError("parts of the sequence need full recomputation", field="backward_chunk",
                         value=plan.backward_chunk, allowed="1")  # fmt: skip
    if plan.lora_rank < 0:
        raise InputError("must not be negative", field="lora_rank", value=plan.lora_rank)
    if plan.lora_rank and any(block.attention.latent for block in model.block):
        raise InputError("adapters of latent attention are not counted", field="lora_rank", value=plan.lora_rank,
                         allowed="0")  # fmt: skip
    if plan.ulysses and (heads // plan.tp) % plan.cp:
        raise InputError("does not divide the heads of a device", field="cp", value=plan.cp,
                         allowed=f"divisors of {heads // plan.tp}")  # fmt: skip
    experts = max(block.ffn.num_expert for block in model.block)
    for field, usual in (("ep", 1), ("skew", 0.0), ("global_balance", False)):
        if experts == 0 and getattr(plan, field) != usual:
            raise InputError("the model has no experts", field=field, value=getattr(plan, field), allowed=str(usual))
    whole = plan.tp * plan.dp * plan.cp
    if plan.ep > 1 and (experts % plan.ep or whole % (plan.ep * plan.expert_tp)):
        raise InputError("must divide the experts and tp x dp x cp", field="ep", value=plan.ep,
                         allowed=f"divisors of {experts} and {whole // plan.expert_tp}")  # fmt: skip


def with_heads(model: ModelSpec, plan: TrainPlan) -> ModelSpec:
    """The model with the layers of the plan's prediction heads after its own: those that it names, else as its last.

    >>> from workloads import models
    >>> with_heads(models.load("llama-2-7b"), TrainPlan(mtp=1)).num_layer
    33
    """
    if not plan.mtp:
        return model
    block = model.mtp[0] if model.mtp else model.block[model.layer[-1]]
    blocks = model.block if block in model.block else (*model.block, block)
    return replace(model, block=blocks, layer=(*model.layer, *[blocks.index(block)] * plan.mtp))


def check_layout(model: ModelSpec, plan: TrainPlan) -> None:
    """Raise `InputError` where a layout is not the model's layers on every stage of the pipeline."""
    stages = plan.pp * plan.interleave
    if len(plan.layout) != stages or min(plan.layout) < 0:
        raise InputError("needs a number of layers for each stage", field="layout", value=plan.layout,
                         allowed=f"{stages} numbers")  # fmt: skip
    if sum(plan.layout) != model.num_layer:
        raise InputError("does not add up to the layers", field="layout", value=sum(plan.layout),
                         allowed=str(model.num_layer))  # fmt: skip
