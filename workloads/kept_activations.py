"""What a layer keeps of a microbatch for its backward pass: tensor by tensor, each with what becomes of it.

What becomes of each is one word and a share (`policy` of a plan):

    keep        as it is
    shrink      stored narrower: the share of its bytes that is left
    sample      a share of its rows is kept, and the weight gradient that reads it is a product of those alone
    recompute   the share of it that the operators that made it make again
    chunk       recomputed in parts, one after the other: the share that is there at once
    offload     the share that goes to the host and comes back
    skip        nothing needs it: the weight that would read it is frozen

`recompute` of a plan names the parts of a layer that are recomputed whole:

    core_attn    scores, softmax and values (`selective`); with a fused kernel only its row sums are let go
    mla_up_proj  queries, keys and values of latent attention, from their latents
    norm         results of norms, which the projections after them multiply
    activation   result of the activation function, which the down projection multiplies
    attention, mlp, moe   the whole part: only its input is kept
    full         the whole layer: only its input is kept
"""

from typing import NamedTuple

from kernels.errors import InputError
from kernels.formats import FORMAT_CODE, FORMATS
from workloads.experts import fullest_rank
from workloads.models.spec import Block, ModelSpec
from workloads.training import MODULES, TrainPlan
from workloads.training_rows import precision_format

EAGER_NORM_BYTE = 10.0  # a value: 4 + 4 + 2
INSIDE = {"attention": ("core_attn", "mla_up_proj"), "mlp": ("activation",), "moe": ("activation",)}
ACTIONS = ("keep", "shrink", "sample", "recompute", "chunk", "offload", "skip")


class Kept(NamedTuple):
    """A tensor of one microbatch on one device. `part`: which half of the layer makes it; `modules`: the parts whose
    recomputation brings it back."""

    name: str
    part: str  # "attention" or "feed-forward"
    byte: float
    modules: tuple[str, ...] = ()
    num_saved: int = 1  # operators that save it
    made_by: tuple[str, ...] = ()  # names of the rows that make it
    feeds: str = ""  # name of the rows whose weight gradient reads it


class KeptByte(NamedTuple):
    """Bytes of one layer and microbatch on one device."""

    kept: float  # on the device until the backward pass
    offloaded: float  # away meanwhile
    passing: float  # brought back by recomputation, for one layer at a time
    again: tuple[tuple[str, float], ...] = ()  # rows that run forward again by a policy, and the share of them
    sampled: tuple[tuple[str, float, float], ...] = ()  # rows whose weight gradient is of a share, and bytes drawn from


def recomputed(plan: TrainPlan) -> tuple[str, ...]:
    """Modules that the plan recomputes. `InputError` for an unknown one.

    >>> recomputed(TrainPlan(recompute="selective")), recomputed(TrainPlan(recompute="norm+activation"))
    (('core_attn',), ('norm', 'activation'))
    """
    if plan.recompute in ("none", "full"):
        return () if plan.recompute == "none" else (*MODULES, "layer")
    if plan.recompute == "selective":
        return ("core_attn",)
    found = tuple(plan.recompute.split("+"))
    for name in found:
        if name not in MODULES:
            raise InputError("no such part of a layer", field="recompute", value=name,
                             allowed=("none", "selective", "full", *MODULES))  # fmt: skip
    return tuple(dict.fromkeys(part for name in found for part in (name, *INSIDE.get(name, ()))))


def kept_tensors(hidden: int, block: Block, plan: TrainPlan, precision: str = "bf16") -> list[Kept]:
    """Every tensor of a layer that some backward operator reads, before anything is recomputed."""
    a, f, byte = block.attention, block.ffn, plan.act_byte
    form = FORMATS[FORMAT_CODE[precision_format(precision)]]
    narrow = min(byte, form.act_bit / 8)  # inputs of products are kept in the products' own format
    token = plan.seq * plan.micro_batch / plan.cp
    local = token / (plan.tp if plan.sequence_parallel else 1)
    head = a.num_head / plan.tp
    kv_head = head if a.latent else max(a.num_kv_head / plan.tp, 1.0)
    stream = local * hidden
    gathered = stream if plan.regather else token * hidden  # inputs of the split projections
    heads = (*(("mla_up_proj",) if a.latent else ()), "attention", "layer")
    query, key = (("q_up",), ("kv_up",)) if a.latent else (("qkv",), ("qkv",))
    first = "q_kv_down" if a.latent else "qkv"
    out = [
        Kept("input of the first norm", "attention", stream * byte, ("layer",)),
        Kept("input of query, key and value", "attention", gathered * narrow, ("norm", "layer"), 1, ("norm",), first),
        Kept("query", "attention", token * head * a.head_dim * byte, heads, 1, query),
        Kept("key", "attention", token * kv_head * a.head_dim * byte, heads, 1, key),
        Kept("value", "attention", token * kv_head * a.v_head_dim * byte, heads, 1, key),
        Kept(
            "result of attention",
            "attention",
            token * head * a.v_head_dim * byte,
            ("attention", "layer"),
            2,
            ("attention", "scores", "softmax", "values"),
            "attn_out",
        ),
    ]
    if narrow < byte:
        out.append(Kept("result of attention, narrow", "attention", token * head * a.v_head_dim * narrow,
                        ("attention", "layer")))  # fmt: skip
    if a.latent:
        latent = token * (a.q_rank + a.kv_rank) * (byte + narrow) + token * a.rope_dim * byte
        out.append(Kept("latents", "attention", latent, ("attention", "layer")))  # fmt: skip
    if plan.attention.startswith("flash"):
        out.append(Kept("row sums of attention", "attention", 4 * token * head, ("core_attn", "attention", "layer")))
    else:  # softmax; with dropout its mask and its result
        score = plan.micro_batch * head * plan.seq * plan.seq / plan.cp
        out.append(Kept("scores", "attention", score * (byte + (byte + 1) * plan.dropout),
                        ("core_attn", "attention", "layer")))  # fmt: skip
        if plan.attention == "unfused":  # and the masked scores before it, and the softmax in 32 bits
            out.append(Kept("masked scores", "attention", score * (byte + 4), ("core_attn", "attention", "layer")))
    if not plan.fused_norm:  # eager: the stream and its normed form in 32 bits, and that in 16
        for which, part in (("first", "attention"), ("second", "feed-forward")):
            out.append(Kept(f"wide copies of the {which} norm", part, stream * EAGER_NORM_BYTE, ("norm", "layer")))
    out.append(Kept("input of the second norm", "feed-forward", stream * byte, ("layer",), 1, ("attn_out",)))
    if plan.dropout:
        out.append(Kept("mask after attention", "attention", stream, ("layer",)))
        out.append(Kept("mask after the feed-forward part", "feed-forward", stream, ("layer",)))
    if f.inter:
        name = ("moe", "layer") if f.num_expert else ("mlp", "layer")
        rows = "shared" if f.num_expert else "mlp"
        out += _wide(token * f.inter / plan.tp, f.num_up, byte, narrow, plan.fused_norm, name, "", rows)
        if not f.num_expert:
            out.append(
                Kept(
                    "input of the up projections",
                    "feed-forward",
                    gathered * narrow,
                    ("norm", "layer"),
                    f.num_up,
                    ("norm",),
                    "mlp_up",
                )
            )
    if f.num_expert:
        row = fullest_rank(token * plan.ep / (plan.tp / plan.expert_tp), f.num_expert, f.topk, plan.ep, plan.skew)[0]
        out.append(Kept("input of the router", "feed-forward", stream * byte, ("norm", "layer")))
        out.append(Kept("scores of the router", "feed-forward", 4 * local * f.num_expert, ("moe", "layer")))
        out.append(Kept("rows of the experts", "feed-forward", row * hidden * narrow, ("moe", "layer"), 1,
                        ("permute", "ep_dispatch"), "expert_up"))  # fmt: skip
        # the router's weights multiply what the down projection reads, so that no result of an expert is kept
        out += _wide(
            row * f.expert_inter / plan.expert_tp,
            f.num_up,
            byte,
            narrow,
            True,
            ("moe", "layer"),
            " of experts",
            "expert",
        )
    return out


def _wide(
    value: float, num_up: int, byte: float, narrow: float, fused: bool, modules: tuple[str, ...], which: str, rows: str
) -> list[Kept]:  # fmt: skip
    """The wide tensors of a feed-forward part: a gated one that is not fused keeps the gate's result besides."""
    part, act = "feed-forward", (f"{rows}_act",)
    found = [Kept(f"results of the up projections{which}", part, num_up * value * byte, modules, num_up,
                  (f"{rows}_up",))]  # fmt: skip
    if num_up == 2 and not fused:
        found.append(Kept(f"result of the gate{which}", part, value * byte, ("activation", *modules), 1, act))
    found.append(Kept(f"input of the down projection{which}", part, value * narrow, ("activation", *modules), 1, act,
                      f"{rows}_down"))  # fmt: skip
    return found


def kept_byte(hidden: int, block: Block, plan: TrainPlan, precision: str = "bf16") -> KeptByte:
    """Bytes that are kept, away and passing, and which operators a policy has run again or on fewer rows. The plan's
    `policy` overrides single tensors by name (`check_policy`); the rest is as `recompute` says. `InputError` for an
    unknown action, or for one that the tensor cannot have.

    >>> from workloads import models
    >>> llama = models.load("llama-2-7b")
    >>> full = kept_byte(llama.hidden, llama.block[0], TrainPlan(recompute="full"))
    >>> full.kept == 2048 * 4096 * 2
    True
    """
    gone = set(recomputed(plan))
    kept = away = passing = 0.0
    again: dict[str, float] = {}
    sampled: list[tuple[str, float, float]] = []
    policy = {name: (action, share) for name, action, share in plan.policy}
    for tensor in kept_tensors(hidden, block, plan, precision):
        usual = "recompute" if gone & set(tensor.modules) else "keep"
        if tensor.name == "input of the first norm":
            usual = "keep"
        action, share = policy.get(tensor.name, (usual, 1.0))
        _check_action(tensor, action, share, usual)
        left = {"keep": 1.0, "shrink": share, "sample": share, "offload": 1 - share, "recompute": 1 - share}
        kept += tensor.byte * left.get(action, 0.0)
        if action == "offload":
            away += tensor.byte * share
        elif action in ("recompute", "chunk"):
            passing += tensor.byte * share
            if usual != "recompute":  # a module's rows run again as it is
                again |= {row: max(again.get(row, 0.0), 1.0 if action == "chunk" else share) for row in tensor.made_by}
        elif action == "sample":
            sampled.append((tensor.feeds, share, tensor.byte))
    return KeptByte(kept, away, passing, tuple(again.items()), tuple(sampled))


def check_policy(model: ModelSpec, plan: TrainPlan) -> None:
    """Raise `InputError` where a policy names a tensor that no layer of the model keeps, or one twice."""
    if not plan.policy:
        return
    known = dict.fromkeys(one.name for block in model.block for one in kept_tensors(model.hidden, block, plan, "fp8"))
    named = [name for name, _, _ in plan.policy]
    for name in named:
        if name not in known or named.count(name) > 1:
            raise InputError("is named twice" if name in known else "no such kept tensor", field="policy", value=name,
                             allowed=known)  # fmt: skip


def _check_action(tensor: Kept, action: str, share: float, usual: str) -> None:
    if action not in ACTIONS:
        raise InputError("no such action", field=tensor.name, value=action, allowed=ACTIONS)
    if not 0 <= share <= (64 if action == "shrink" else 1):
        raise InputError("not a share", field=tensor.name, value=share, allowed="0 to 1")
    if action in ("recompute", "chunk") and usual != "recompute" and not tensor.made_by:
        raise InputError("no operator of the layer makes it again", field=tensor.name, value=action, allowed=ACTIONS)
    if action == "sample" and not tensor.feeds:
        raise InputError("no weight gradient reads it", field=tensor.name, value=action, allowed=ACTIONS)


def passing_byte(hidden: int, block: Block, plan: TrainPlan, whole: float) -> float:
    """Bytes of one layer that recomputation brings back at once: `whole`, or with `backward_chunk` parts of the
    sequence two parts of that (one is let go when the next is built), and normed input, keys and values of all that
    went before; but never less than the forward pass itself holds, which runs whole."""
    chunk = plan.backward_chunk
    if chunk == 1:
        return whole
    a, f, byte = block.attention, block.ffn, plan.act_byte
    token = plan.seq * plan.micro_batch / plan.cp
    split = plan.tp if plan.sequence_parallel else 1
    keys = max(a.num_kv_head / plan.tp, 1.0) * (a.head_dim + a.v_head_dim)
    before = token * (hidden / split + keys) * byte
    forward = token * (2 * hidden / split + (f.num_up + 1) * (f.inter + f.topk * f.expert_inter) / plan.tp) * byte
    return min(whole, max(2 * whole / chunk + before * (chunk - 2) / chunk, forward))


def work_byte(hidden: int, block: Block, plan: TrainPlan) -> float:
    """Bytes of the gradients under way in the backward pass of a layer: of the widest operator's inputs and result,
    and of the residual stream. With sequence parallelism all tokens of a split part are on every rank meanwhile: its
    gathered input, and the gradient of that before it is scattered."""
    f, token = block.ffn, plan.seq * plan.micro_batch / plan.cp
    split = plan.tp if plan.sequence_parallel else 1
    gathered = 2 if plan.sequence_parallel and plan.tp > 1 else 0
    wide = max(f.inter / plan.tp, f.topk * f.expert_inter / plan.expert_tp / (plan.tp / plan.expert_tp))
    stream = (gathered + 2 / split) * hidden
    return token * plan.act_byte * ((f.num_up + 1) * wide / plan.backward_chunk + stream)
