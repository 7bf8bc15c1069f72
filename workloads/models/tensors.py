"""Every weight tensor of a model by part: parameter counts, memory and sharding all read this one list."""

from dataclasses import dataclass

from workloads.models.spec import Attention, Block, FeedForward, ModelSpec

PARTS = ("embedding", "norm", "attention", "ffn", "router", "expert", "head")


@dataclass(frozen=True)
class Tensor:
    """`value` weights in each of `count` copies.

    `shard` says how a placement divides it: "tp" by tensor parallelism, "kv" like "tp" but never finer than
    a key-value head, "expert" over experts and their tensor parallelism, "vocab" by padded vocabulary rows,
    "" replicated. `row` is what is counted in whole units when it is sharded (KV heads, experts, vocabulary).
    """

    name: str
    part: str
    value: int
    count: int
    shard: str = ""
    row: int = 1


def tensors(model: ModelSpec, start: int = 0, stop: int | None = None) -> list[Tensor]:
    """Tensors of layers `start:stop`; the embedding comes with layer 0, final norm and head with the last."""
    stop = model.num_layer if stop is None else stop
    h = model.hidden
    norm = h * (2 if model.norm_bias else 1)
    found: list[Tensor] = []
    if start == 0:
        found.append(Tensor("embed", "embedding", model.vocab * h, 1, "vocab", model.vocab))
        if model.position_row:
            found.append(Tensor("position", "embedding", model.position_row * h, 1))
        if model.embed_norm:
            found.append(Tensor("embed_norm", "norm", norm, 1))
    for block, count in model.num_block(start, stop).items():
        found.append(Tensor("layer_norm", "norm", norm * block.num_norm, count))
        found += [
            Tensor(t.name, t.part, t.value, count, t.shard, t.row)
            for t in [*_attention(block.attention, h), *_ffn(block.ffn, h)]
        ]
    if stop == model.num_layer:
        found.append(Tensor("final_norm", "norm", norm, 1))
        if not model.tied or start > 0:  # a tied head on another stage than the embedding is a second copy
            part = "embedding" if model.tied else "head"
            found.append(Tensor("lm_head", part, model.vocab * h, 1, "vocab", model.vocab))
        if model.head_bias:
            found.append(Tensor("head_bias", "head", model.vocab, 1, "vocab", model.vocab))
    return [t for t in found if t.value * t.count]


def _attention(a: Attention, h: int) -> list[Tensor]:
    if a.latent:
        q_in = a.q_rank or h
        return [
            Tensor("q_a", "attention", h * a.q_rank + a.q_rank, 1),  # down projection and its norm
            Tensor("q_b", "attention", q_in * a.num_head * a.head_dim, 1, "tp"),
            Tensor("kv_a", "attention", h * (a.kv_rank + a.rope_dim) + a.kv_rank, 1),
            Tensor("kv_b", "attention", a.kv_rank * a.num_head * (a.nope_dim + a.v_head_dim), 1, "tp"),
            Tensor("o_proj", "attention", a.num_head * a.v_head_dim * h, 1, "tp"),
        ]
    q, kv = a.num_head * a.head_dim, a.num_kv_head * (a.head_dim + a.v_head_dim)
    rows = h + (1 if a.qkv_bias else 0)
    return [
        Tensor("q_proj", "attention", q * rows, 1, "tp"),
        Tensor("kv_proj", "attention", kv * rows, 1, "kv", a.num_kv_head),
        Tensor("o_proj", "attention", a.num_head * a.v_head_dim * h, 1, "tp"),
        Tensor("o_bias", "attention", h if a.out_bias else 0, 1),
        Tensor("qk_norm", "norm", a.qk_norm, 1),
        Tensor("sink", "attention", a.num_head if a.sink else 0, 1, "tp"),
    ]


def _ffn(f: FeedForward, h: int) -> list[Tensor]:
    bias = 1 if f.bias else 0
    found = [
        Tensor("mlp_up", "ffn", f.num_up * f.inter * (h + (bias if not f.num_expert else 0)), 1, "tp"),
        Tensor("mlp_down", "ffn", f.inter * h, 1, "tp"),
        Tensor("mlp_bias", "ffn", h if f.bias and f.inter else 0, 1),
    ]
    if f.num_expert:
        e = f.num_expert
        expert = f.num_up * f.expert_inter * (h + bias) + f.expert_inter * h + bias * h
        found += [
            Tensor("router", "router", h * e + f.router_bias, 1),
            Tensor("experts", "expert", e * expert, 1, "expert", e),
            Tensor("shared_gate", "router", h if f.shared_gate else 0, 1),
        ]
    return found


def num_param(model: ModelSpec) -> int:
    """Parameters, every tensor counted once (a tied head is the embedding).

    >>> from workloads.models.catalogue import load
    >>> num_param(load("llama-2-7b"))
    6738415616
    """
    return sum(t.value * t.count for t in tensors(model))


def num_active_param(model: ModelSpec) -> int:
    """Parameters that one token meets: all of the model less the experts not chosen.

    Published "active" counts differ in whether the input embedding, of which a token reads one row, is in
    (Mixtral's 12.9 B) or out (gpt-oss's 3.6 B); here it is in.
    """
    idle = sum(
        (b.ffn.num_expert - b.ffn.topk) * _expert_value(b, model.hidden) * count
        for b, count in model.num_block().items()
        if b.ffn.num_expert
    )
    return num_param(model) - idle


def _expert_value(block: Block, hidden: int) -> int:
    experts = next(t for t in _ffn(block.ffn, hidden) if t.name == "experts")
    return experts.value // block.ffn.num_expert
