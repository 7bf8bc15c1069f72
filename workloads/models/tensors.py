"""Every weight tensor of a model by part: parameter counts, memory and sharding all read this one list."""

from dataclasses import replace

from workloads.models.spec import Attention, Block, FeedForward, Indexer, ModelSpec
from workloads.models.tensor import PARTS, Tensor

__all__ = ["PARTS", "Tensor", "block_tensors", "num_active_param", "num_mtp_param", "num_param", "tensors"]

_MOE = ("mlp", "block_sparse_moe", "feed_forward", "mixer", "moe", "ffn")  # what architectures call the expert part


def _at(places: tuple[str, ...], *names: str) -> tuple[str, ...]:
    return tuple(f"{place}.{name}" for place in places for name in names)


Q = _at(("self_attn", "mixer", "attention", "attn", "mamba"), "q_proj", "qkv_proj", "query_key_value", "wqkv", "Wqkv",
        "c_attn", "wq")  # fmt: skip
KV = _at(("self_attn", "mixer", "attention", "attn"), "k_proj", "v_proj", "qkv_proj", "query_key_value", "wqkv", "Wqkv",
         "c_attn", "wk", "wv")  # fmt: skip
O = _at(("self_attn", "mixer", "attention", "attn"), "o_proj", "dense", "out_proj", "wo", "c_proj")  # noqa: E741
DENSE = ("mlp", "feed_forward", "ffn", "mixer", "shared_mlp")
UP = _at(DENSE, "gate_proj", "up_proj", "gate_up_proj", "w1", "w3", "dense_h_to_4h", "c_fc", "fc1", "input_linear")
DOWN = _at(DENSE, "down_proj", "w2", "dense_4h_to_h", "c_proj", "fc2", "output_linear")
SHARED = ("share_expert", *_at(_MOE, "shared_expert", "shared_experts", "shared_mlp"))
SHARED_UP = _at(SHARED, "gate_proj", "up_proj", "gate_up_proj", "input_linear")
SHARED_DOWN = _at(SHARED, "down_proj", "output_linear")
EXPERTS = _at(_MOE, "experts", "experts.0", "experts.gate_up_proj", "experts.down_proj", "experts.0.gate_proj",
              "experts.0.up_proj", "experts.0.down_proj", "experts.0.w1", "experts.0.w2")  # fmt: skip


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
        side = sum(block.side * count for block, count in model.num_block().items())
        found += [
            Tensor("side_embed", "embedding", model.side_row * side),
            Tensor("side_proj", "ffn", h * side + (max(b.side for b in model.block) if side else 0)),  # and its norm
            Tensor("extra", "norm", model.extra_value),
        ]
    for block, count in model.num_block(start, stop).items():
        found += [replace(t, count=count) for t in block_tensors(model, block)]
    if stop == model.num_layer:
        found.append(Tensor("final_norm", "norm", norm, 1))
        if not model.tied or start > 0:  # a tied head on another stage than the embedding is a second copy
            part = "embedding" if model.tied else "head"
            found.append(Tensor("lm_head", part, model.vocab * h, 1, "vocab", model.vocab))
        if model.head_bias:
            found.append(Tensor("head_bias", "head", model.vocab, 1, "vocab", model.vocab))
    return [t for t in found if t.value * t.count]


def block_tensors(model: ModelSpec, block: Block) -> list[Tensor]:
    """Tensors of one layer, `count` 1."""
    h = model.hidden
    norm = h * (2 if model.norm_bias else 1)
    if block.twin:
        own = block.mixer.tensors(h) if block.mixer is not None else []
        return [*own, Tensor("extra", "norm", block.extra_value)]
    found = [Tensor("layer_norm", "norm", norm * block.num_norm), *_attention(block.attention, h)]
    if block.mixer is not None:
        found += block.mixer.tensors(h)
    if block.side:
        found.append(
            Tensor("side", "ffn", 2 * h * block.side + h, module=("per_layer_input_gate", "per_layer_projection"))
        )
    idle = Tensor("idle", "expert", block.idle_value, module=EXPERTS)
    found += [*_ffn(block.ffn, h), Tensor("extra", "norm", block.extra_value), idle]
    return [t for t in found if t.value]


def _attention(a: Attention, h: int) -> list[Tensor]:
    if not a.num_head:
        return []
    result = a.num_head * a.v_head_dim
    gate = Tensor("attn_gate", "attention", h * a.gate, 1, "tp", module=(*Q, "self_attn.g_proj"))
    if a.latent:
        q_in = a.q_rank or h
        return [
            Tensor("q_a", "attention", h * a.q_rank + a.q_rank, 1,  # down projection and its norm
                   module=("self_attn.q_a_proj", "self_attn.fused_qkv_a_proj")),
            Tensor("q_b", "attention", q_in * a.num_head * a.head_dim, 1, "tp",
                   module=("self_attn.q_b_proj", "self_attn.q_proj")),
            Tensor("kv_a", "attention", h * (a.kv_rank + a.rope_dim) + a.kv_rank, 1,
                   module=("self_attn.kv_a_proj_with_mqa", "self_attn.fused_qkv_a_proj")),
            Tensor("kv_b", "attention", a.kv_rank * a.num_head * (a.nope_dim + a.v_head_dim), 1, "tp",
                   module=("self_attn.kv_b_proj",)),
            gate,
            Tensor("o_proj", "attention", result * h, 1, "tp", module=O),
            *_indexer(a.indexer, h),
        ]  # fmt: skip
    q = a.num_head * a.head_dim
    kv = a.num_kv_head * (a.head_dim if a.key_is_value else a.head_dim + a.v_head_dim)
    bias = 1 if a.qkv_bias else 0
    rows = h + a.joined + bias
    down = Tensor("q_a", "attention", h * a.q_rank + a.q_rank, module=Q)  # a narrow query and its norm (Step-3)
    return [
        down,
        Tensor("q_proj", "attention", q * (a.q_rank + bias if a.q_rank else rows), 1, "tp", module=Q),
        Tensor("kv_proj", "attention", 0 if a.shared_kv else kv * rows, 1, "kv", a.num_kv_head,
               module=KV),
        gate,
        Tensor("o_proj", "attention", result * h, 1, "tp", module=O),
        Tensor("o_bias", "attention", h if a.out_bias else 0, 1),
        Tensor("qk_norm", "norm", a.qk_norm, 1),
        Tensor("sink", "attention", a.num_head if a.sink else 0, 1, "tp"),
        *_indexer(a.indexer, h),
    ]  # fmt: skip


def _indexer(x: Indexer | None, h: int) -> list[Tensor]:
    """Query and key projections, the weight of each head, and the key's norm with its bias (DeepSeek) or the norms
    of query and key (MiniMax)."""
    if x is None or not x.reads:
        return []
    query = (x.q_rank or h) * x.num_head * x.head_dim
    own = h * (x.head_dim + (x.num_head if x.weighted else 0)) + 2 * x.head_dim
    at = _at(("self_attn.indexer",), "wq_b", "wk", "weights_proj")
    return [
        Tensor("index_q", "attention", query, 1, "" if x.weighted else "tp", module=(*at, "self_attn.index_q_proj")),
        Tensor("index_k", "attention", own, 1, module=(*at, "self_attn.index_k_proj")),
    ]


def _ffn(f: FeedForward, h: int) -> list[Tensor]:
    bias = 1 if f.bias else 0
    up, down = (SHARED_UP, SHARED_DOWN) if f.num_expert else (UP, DOWN)
    found = [
        Tensor("mlp_up", "ffn", f.num_up * f.inter * (h + (bias if not f.num_expert else 0)), 1, "tp", module=up),
        Tensor("mlp_down", "ffn", f.inter * h, 1, "tp", module=down),
        Tensor("mlp_bias", "ffn", h if f.bias and f.inter else 0, 1),
    ]
    if f.num_expert:
        e, width = f.num_expert, f.latent or h
        expert = f.num_up * f.expert_inter * (width + bias) + f.expert_inter * width + bias * width
        latent = _at(_MOE, "fc1_latent_proj", "fc2_latent_proj", "routed_expert_down_proj", "routed_expert_up_proj")
        found += [
            Tensor("router", "router", h * e + f.router_bias, 1),
            Tensor("latent", "ffn", 2 * h * f.latent, 1, module=latent),
            Tensor("latent_norm", "norm", f.latent if f.latent_norm else 0, 1),
            Tensor("experts", "expert", e * expert, 1, "expert", e, module=EXPERTS),
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


def num_mtp_param(model: ModelSpec) -> int:
    """Parameters of the multi-token-prediction heads: their layers, and for each the projection of the hidden state
    joined with the next token's embedding, its two norms and the final one (embedding and head are the model's)."""
    h = model.hidden
    return sum(2 * h * h + 3 * h + sum(t.value for t in block_tensors(model, block)) for block in model.mtp)


def num_active_param(model: ModelSpec) -> int:
    """Parameters that one token meets: all of the model less the experts not chosen.

    Published "active" counts differ in whether the input embedding, of which a token reads one row, is in
    (Mixtral's 12.9 B) or out (gpt-oss's 3.6 B); here it is in.
    """
    idle = sum(
        (b.idle_value + (b.ffn.num_expert - b.ffn.topk) * _expert_value(b, model.hidden)) * count
        for b, count in model.num_block().items()
        if b.ffn.num_expert
    )
    return num_param(model) - idle


def _expert_value(block: Block, hidden: int) -> int:
    experts = next(t for t in _ffn(block.ffn, hidden) if t.name == "experts")
    return experts.value // block.ffn.num_expert
