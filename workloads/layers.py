"""The operators of one layer outside attention proper: projections, feed-forward, experts, collectives."""

from collections.abc import Callable

import numpy as np

from kernels import optable as op
from kernels.formats import FORMAT_CODE
from kernels.moe_load import awake_experts
from workloads import kv
from workloads.models.spec import Attention, Block, FeedForward, ModelSpec
from workloads.rows import ACT_FLOP, ADD_FLOP, NORM_FLOP, ROPE_FLOP, Count, Rows, ceil_div

FeedForwardRows = Callable[[Rows, FeedForward, int, float], None]


def add_block(
    rows: Rows, model: ModelSpec, block: Block, skew: float, feed_forward: FeedForwardRows | None = None
) -> None:
    """One layer: norm, attention projections, residual add, norm, feed-forward, residual add. A parallel
    block adds the two results before one collective and one residual add. A recurrent part stands in place of
    attention or beside it, on the same input; a part that a layer has not, it has no norm and no add for.
    `feed_forward` adds what stands in place of the feed-forward part between its norm and its add."""
    h, f = model.hidden, block.ffn
    local = ceil_div(rows.m, rows.placement.tp) if rows.placement.sequence_parallel else rows.m

    def norm(name: str) -> None:
        weight = h * (2 if model.norm_bias else 1)
        rows.stream(name, op.NORM, local, h, NORM_FLOP[model.norm], weight=weight)

    def add(name: str) -> None:
        if not block.streams:  # hyper-connections have written the result into their streams
            rows.stream(name, op.ADD, local, h, ADD_FLOP, read=2)

    if block.attention.num_head or block.mixer is not None:
        _residuals(rows, block, h, local)
        norm("attn_norm")
        if block.parallel and block.num_norm == 2:
            norm("mlp_norm")
        gather_hidden(rows, "attn", h)
        if block.attention.num_head:
            _projections(rows, model, block.attention)
        if block.mixer is not None:
            block.mixer.lower(rows, h)
            if block.attention.num_head:
                rows.stream("branch_add", op.ADD, rows.m, h, ADD_FLOP, read=2)
        if block.parallel:
            add_dense(rows, f, h)
            rows.stream("branch_add", op.ADD, rows.m, h, ADD_FLOP, read=2)
            reduce_hidden(rows, "layer", h)
            rows.stream("mlp_add", op.ADD, local, h, ADD_FLOP, read=2)
            return
        reduce_hidden(rows, "attn", h)
        if block.num_norm >= 4:
            norm("attn_post_norm")
        add("attn_add")
    if not f.empty:
        _residuals(rows, block, h, local)
        norm("mlp_norm")
        (feed_forward or _feed_forward)(rows, f, h, skew)
        if block.num_norm >= 4:
            norm("mlp_post_norm")
        for _ in range(block.num_norm - 4):  # Gemma 4: dense part and experts are normed apart
            norm("branch_norm")
        add("mlp_add")
    if block.side:
        _side(rows, block.side, h)


def _side(rows: Rows, side: int, h: int) -> None:
    """A layer's own embedding of the token, gated by the stream and projected into it (every device does all of it)."""
    rows.gemm("side_gate", rows.m, side, h, "ffn")
    rows.stream("side_mul", op.ACT, rows.m, side, ACT_FLOP, read=2)
    rows.gemm("side_up", rows.m, h, side, "ffn")
    rows.stream("side_norm", op.NORM, rows.m, h, NORM_FLOP["rms"], weight=h)
    rows.stream("side_add", op.ADD, rows.m, h, ADD_FLOP, read=2)


def _residuals(rows: Rows, block: Block, h: int, m: Count) -> None:
    """What stands in place of a plain residual around a part: hyper-connections (a map from all streams to how each
    enters the part, takes its result and mixes with the others; DeepSeek-V4), or a softmax over the outputs of
    earlier layers (a norm, a product with a learned vector and a weighted sum of each; Kimi-K3)."""
    if block.streams:
        num = block.streams
        rows.gemm("hc_map", m, num * (num + 2), num * h, "activation", bias=num * (num + 2) + 3)
        rows.stream("hc_pre", op.ADD, m, h, 2.0 * num, read=num)
        rows.stream("hc_post", op.ADD, m, num * h, 2.0 * num + 2.0, read=1 + 1 / num)
    if block.joins:
        rows.stream("res_join", op.ADD, m, h, 8.0 * block.joins, read=block.joins, weight=2 * h)


def reduce_hidden(rows: Rows, name: str, hidden: int) -> None:
    """Sum partial hidden states over the tensor-parallel group (scattering tokens under sequence parallelism)."""
    kind = op.REDUCE_SCATTER if rows.placement.sequence_parallel else op.ALL_REDUCE
    rows.link(f"{name}_reduce", kind, "tp", rows.placement.tp, rows.m * (hidden * rows.byte))


def gather_hidden(rows: Rows, name: str, hidden: int) -> None:
    """Collect all tokens on every device of the tensor-parallel group (sequence parallelism only)."""
    if rows.placement.sequence_parallel:
        rows.link(f"{name}_gather", op.ALL_GATHER, "tp", rows.placement.tp, rows.m * (hidden * rows.byte))


def _projections(rows: Rows, model: ModelSpec, a: Attention) -> None:
    h, m, tp = model.hidden, rows.m, rows.placement.tp
    head = a.num_head // tp
    out_bias = h if a.out_bias else 0
    if a.latent:
        _latent(rows, a, h, head)
        _gate(rows, a, h)
        rows.gemm("o_proj", m, h, head * a.v_head_dim, "attention", bias=out_bias)
        return
    kv_head = 0 if a.shared_kv else ceil_div(a.num_kv_head, tp)
    value_dim = 0 if a.key_is_value else a.v_head_dim
    query, key = head * a.head_dim, kv_head * (a.head_dim + value_dim)
    if a.q_rank:  # a narrow query, alike on all devices, is normed and widened (Step-3)
        rows.gemm("qkv_proj", m, a.q_rank + key, h, "attention", bias=key if a.qkv_bias else 0)
        rows.stream("q_norm", op.NORM, m, a.q_rank, NORM_FLOP["rms"], weight=a.q_rank)
        rows.gemm("q_b_proj", m, query, a.q_rank, "attention", bias=query if a.qkv_bias else 0)
    else:
        rows.gemm("qkv_proj", m, query + key, h + a.joined, "attention", bias=query + key if a.qkv_bias else 0)
    _index(rows, a, h)
    if a.qk_norm:
        rows.stream("qk_norm", op.NORM, m, (head + kv_head) * a.head_dim, NORM_FLOP["rms"], weight=a.qk_norm)
    if a.rope_dim:
        rows.stream("rope", op.ROPE, m, (head + kv_head) * a.rope_dim, ROPE_FLOP)
    if not a.shared_kv:
        rows.kv_write(kv.token_value(a, tp))
    _gate(rows, a, h)
    rows.gemm("o_proj", m, h, head * a.v_head_dim, "attention", bias=out_bias)


def _gate(rows: Rows, a: Attention, h: int) -> None:
    """A gate on the result, a channel each or a head each: its projection, then sigmoid and product."""
    if a.gate:
        rows.gemm("attn_gate", rows.m, a.gate // rows.placement.tp, h, "attention")
        rows.stream("attn_gate_mul", op.ACT, rows.m, a.num_head // rows.placement.tp * a.v_head_dim, ACT_FLOP, read=2)


def _index(rows: Rows, a: Attention, h: int) -> None:
    """The indexer of sparse attention: its queries, its key, the weight of each head, the key's norm and write, and
    the choice of the keys to read (the scores are attention's: `lower_attention`)."""
    x = a.indexer
    if x is None or not x.reads:
        return
    head = x.num_head if x.weighted else ceil_div(x.num_head, rows.placement.tp)
    rows.gemm("index_q", rows.m, head * x.head_dim, x.q_rank or h, "attention")
    rows.gemm("index_k", rows.m, x.head_dim + (x.num_head if x.weighted else 0), h, "attention")
    rows.stream("index_norm", op.NORM, rows.m, x.head_dim, NORM_FLOP["rms"], weight=2 * x.head_dim)
    rows.kv_write(x.head_dim, x.kv_format)


def _latent(rows: Rows, a: Attention, h: int, head: int) -> None:
    """Latent attention: the down projections are replicated over `tp`, the up projections split by heads.

    `k_up` and `v_up` are the absorbed form (queries into latent space, results out of it), whose FLOPs equal
    those of expanding the new tokens' keys and values; they run in the activations' format.
    """
    m, latent = rows.m, a.kv_rank + a.rope_dim
    rows.gemm("qkv_a_proj", m, a.q_rank + latent, h, "attention")
    rows.stream("latent_norm", op.NORM, m, a.q_rank + a.kv_rank, NORM_FLOP["rms"], weight=a.q_rank + a.kv_rank)
    rows.gemm("q_b_proj", m, head * a.head_dim, a.q_rank or h, "attention")
    rows.stream("rope", op.ROPE, m, (head + 1) * a.rope_dim, ROPE_FLOP)
    rows.kv_write(latent)
    _index(rows, a, h)
    rows.gemm("k_up", m, a.kv_rank, a.nope_dim, "activation", batch=head)
    rows.gemm("v_up", m, a.v_head_dim, a.kv_rank, "activation", batch=head)


def add_dense(rows: Rows, f: FeedForward, h: int, name: str = "mlp") -> None:
    """Up projection, activation, down projection on `inter / tp` channels; the result is a partial sum."""
    inter = f.inter // rows.placement.tp
    bias = f.bias and not f.num_expert
    rows.gemm(f"{name}_up", rows.m, f.num_up * inter, h, "ffn", bias=f.num_up * inter if bias else 0)
    rows.stream(f"{name}_act", op.ACT, rows.m, inter, ACT_FLOP, read=f.num_up)
    rows.gemm(f"{name}_down", rows.m, h, inter, "ffn", bias=h if bias else 0)


def _feed_forward(rows: Rows, f: FeedForward, h: int, skew: float) -> None:
    if not f.num_expert:
        gather_hidden(rows, "mlp", h)
        add_dense(rows, f, h)
        reduce_hidden(rows, "mlp", h)
    elif rows.placement.attn_dp > 1 or rows.placement.sequence_parallel:
        _expert_exchanged(rows, f, h, skew)
    else:
        add_router(rows, f, h, rows.m)
        add_latent_in(rows, f, h, rows.m)
        add_experts(rows, f, f.latent or h, rows.m, skew)
        if f.latent:
            if f.latent_norm:  # a norm needs the sum over devices; a projection alone passes partial sums on
                rows.link("latent_reduce", op.ALL_REDUCE, "tp", rows.placement.tp, rows.m * (f.latent * rows.byte))
            add_latent_out(rows, f, h, rows.m)
        if f.inter:
            add_dense(rows, f, h, "shared")
            rows.stream("shared_add", op.ADD, rows.m, h, ADD_FLOP, read=2)
        reduce_hidden(rows, "mlp", h)


def _expert_exchanged(rows: Rows, f: FeedForward, h: int, skew: float) -> None:
    """Experts whose tokens lie on several devices: each owns `1 / tp` of its attention group's tokens.

    Whole experts a device (`moe_tp` 1): all-to-all, a token sent once to every device that holds one of its
    experts, in the experts' activation format, and back. Otherwise all devices of the stage gather all
    tokens and reduce-scatter the results. Without sequence parallelism the tensor-parallel group then
    gathers its tokens again. Shared experts are computed on the attention group, as a dense part is.
    """
    p, m = rows.placement, rows.m
    own = ceil_div(m, p.tp)
    add_router(rows, f, h, own)
    add_latent_in(rows, f, h, own)
    wide = f.latent or h
    if p.moe_tp == 1:
        if rows.formats.converts("expert"):
            rows.convert("experts", own, wide, "expert")
        rows.exchange("expert_dispatch", op.DISPATCH, f, own, wide, rows.formats.act_byte("expert"))
        add_experts(rows, f, wide, m * p.attn_dp, skew)
        rows.exchange("expert_combine", op.COMBINE, f, own, wide, rows.byte)
    else:
        everything = m * (float(p.attn_dp) * wide * rows.byte)
        rows.link("expert_gather", op.ALL_GATHER, "expert", p.stage_device, everything)
        add_experts(rows, f, wide, m * p.attn_dp, skew)
        rows.link("expert_scatter", op.REDUCE_SCATTER, "expert", p.stage_device, everything)
    if f.latent:
        add_latent_out(rows, f, h, own)
    if not p.sequence_parallel:
        rows.link("token_gather", op.ALL_GATHER, "tp", p.tp, m * (h * rows.byte))
    if f.inter:
        gather_hidden(rows, "shared", h)
        add_dense(rows, f, h, "shared")
        reduce_hidden(rows, "shared", h)
        rows.stream("shared_add", op.ADD, own if p.sequence_parallel else m, h, ADD_FLOP, read=2)


def add_router(rows: Rows, f: FeedForward, h: int, m: Count) -> None:
    """Scores of every expert (replicated weights, activations' format) and the choice of `topk`."""
    rows.gemm("router", m, f.num_expert, h, "activation", bias=f.router_bias)
    rows.stream("router_topk", op.ACT, m, f.num_expert, ACT_FLOP, write=2.0 * f.topk / f.num_expert)
    if f.shared_gate:
        rows.gemm("shared_gate", m, 1, h, "activation")


def add_latent_in(rows: Rows, f: FeedForward, h: int, m: Count) -> None:
    """Down to the width that routed experts work in (replicated weights)."""
    if f.latent:
        rows.gemm("latent_down", m, f.latent, h, "ffn")


def add_latent_out(rows: Rows, f: FeedForward, h: int, m: Count) -> None:
    if f.latent_norm:
        rows.stream("latent_norm", op.NORM, m, f.latent, NORM_FLOP["rms"], weight=f.latent)
    rows.gemm("latent_up", m, h, f.latent, "ffn")


def add_experts(rows: Rows, f: FeedForward, h: int, m: Count, skew: float) -> None:
    """One fused row for the routed experts of a layer.

    `m`: every token that the experts of the whole expert group see, before top-k. A device holds
    `num_expert / ep` experts of `expert_inter / moe_tp` channels (columns `num_expert`, `ep`, `tp`, `n` are
    those of the whole model) and computes `m * topk / ep` token-expert pairs of them on average; this is also
    what fused-expert kernels are benchmarked at: `num_token` tokens routed over all experts, of which the
    local share is computed. FLOPs and bytes of rows are a device's averages, of each pair the tensors between the two
    grouped GEMMs; weights are those of the experts that the load law of their price wakes on the fullest device
    (`kernels.moe_load`). Narrow activations are made inside the kernel. `n` counts a gated expert's width (three
    matrices); a plain expert of two is written as a gated one of two thirds its width, which has the same weights and
    FLOPs.
    """
    p, formats = rows.placement, rows.formats
    inter = f.expert_inter // p.moe_tp
    pair = m * (f.topk / p.ep)
    awake = awake_experts(m.ravel(), f.num_expert, f.topk, p.ep, skew).reshape(m.shape)
    narrow = formats.act_byte("expert")
    value = float(h) * inter * (f.num_up + 1)
    bias = (f.num_up * inter + h) * rows.byte if f.bias else 0.0
    rows.add(
        "experts",
        op.MOE,
        fmt=FORMAT_CODE[formats.expert],
        m=m,
        n=f.expert_inter if f.gated else round(f.expert_inter * 2 / 3),
        k=h,
        num_expert=f.num_expert,
        topk=f.topk,
        tp=p.moe_tp,
        ep=p.ep,
        skew=np.float32(skew),
        flop=pair * (2.0 * value + ACT_FLOP * inter),
        weight_byte=awake * (value * formats.weight_byte("expert") + bias),
        act_byte=pair * ((h + inter) * narrow + (f.num_up * inter + h) * rows.byte),
        write_byte=pair * (f.num_up * inter * rows.byte + inter * narrow + h * rows.byte) + m * (h * rows.byte / p.ep),
    )
