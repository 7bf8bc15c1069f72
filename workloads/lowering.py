"""A step of a model on one device of one pipeline stage, as operator tables.

A step falls into three parts that add up exactly: what depends on the token count alone (`lower_dense`), the
head on the sequences that sample (`lower_head`), and attention over its work list (`lower_attention`).
`lower_step` is the three together. Token counts may be arrays: `lower_dense` then gives a table
`[token counts, rows]`, which is how a whole price table is built at once.

All counts are those of **one attention group** (`tp` devices): under attention data parallelism each group
has its own sequences, and the experts see `attn_dp` times the tokens (groups taken as equally loaded).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kernels import optable as op
from kernels.errors import InputError
from kernels.formats import FORMAT_CODE
from workloads import kv
from workloads.formats import Formats
from workloads.layers import add_block, reduce_hidden
from workloads.models.spec import Attention, ModelSpec
from workloads.placement import Placement
from workloads.rows import ADD_FLOP, NORM_FLOP, SAMPLE_FLOP, Rows, ceil_div
from workloads.work import visible


@dataclass(frozen=True)
class Plan:
    """What one iteration computes, a value a sequence (arrays of one length).

    `query_len` new tokens, `kv_len` keys with them included, `is_decode` which attention kernel they take,
    `samples` how many of its last tokens go through the head (0 or 1; a verification samples all).
    """

    query_len: npt.NDArray[np.int64]
    kv_len: npt.NDArray[np.int64]
    is_decode: npt.NDArray[np.bool_]
    samples: npt.NDArray[np.bool_ | np.int64]

    def __post_init__(self) -> None:
        wrong = np.flatnonzero((self.query_len < 1) | (self.kv_len < self.query_len))
        if wrong.size:
            first = (int(self.query_len[wrong[0]]), int(self.kv_len[wrong[0]]))
            raise InputError(
                f"sequence {wrong[0]} of the plan is impossible",
                field="query_len, kv_len",
                value=first,
                allowed="1 <= query_len <= kv_len",
            )


def lower_dense(
    model: ModelSpec,
    formats: Formats,
    placement: Placement,
    stage: int,
    num_token: npt.ArrayLike,
    skew: float = 0.0,
) -> op.OpTable:
    """Operators of a stage whose cost depends on the token count alone: embedding (first stage), norms,
    projections, rotary, KV writes, feed-forward or experts, residual adds, collectives, the final norm (last
    stage) and the hand-over to the next stage. Identical layers are one row with `count`.

    `num_token`: one number gives a 1-D table; an array of shape `S` a table of shape `[*S, rows]`.
    `skew`: exponent of the expert load (`kernels.moe_load`; 0: even).

    >>> from workloads import models, placement
    >>> from workloads.formats import parse
    >>> llama = models.load("llama-2-7b")
    >>> ops = lower_dense(llama, parse("bf16"), placement.make(llama), 0, 16)
    >>> ops["name"][1], int(ops["count"][1]), float(ops["flop"][2]) == 2 * 16 * 4096 * 12288
    (np.bytes_(b'attn_norm'), 32, True)
    """
    refuse_unpriced(model)
    start, stop = placement.stages(model.num_layer)[stage]
    rows = Rows(formats, placement, num_token, stage)
    enter_stage(rows, model)
    for block, count in model.dense_class(start, stop).items():
        rows.count = count
        add_block(rows, model, block, skew)
    rows.count = 1
    leave_stage(rows, model)
    return rows.table()


def refuse_unpriced(model: ModelSpec) -> None:
    """Raise `InputError` where the model has layers whose operators nobody has lowered, by the field's name."""
    if model.unpriced:
        raise InputError(
            f"{model.name} is read (parameters, memory) but not priced: no operators are known for this",
            field=model.unpriced[0],
            value="set",
            allowed=f"a model without {', '.join(model.unpriced)}",
        )


def enter_stage(rows: Rows, model: ModelSpec) -> None:
    """The embedding, or the rest of the hand-over from the stage before."""
    if rows.stage == 0:
        _embedding(rows, model)
    elif not rows.placement.sequence_parallel:
        rows.link("pp_gather", op.ALL_GATHER, "tp", rows.placement.tp, rows.m * (model.hidden * rows.byte))


def leave_stage(rows: Rows, model: ModelSpec) -> None:
    """The final norm, or the hand-over: each device sends its `1 / tp` of the tokens' hidden states."""
    if rows.stage == rows.placement.pp - 1:
        streams = model.block[model.layer[-1]].streams
        if streams:  # hyper-connections: the streams become one
            rows.gemm("hc_head", rows.m, streams, streams * model.hidden, "activation")
        _norm(rows, model, "final_norm")
    else:
        rows.link("pp_send", op.P2P, "pp", 2, ceil_div(rows.m, rows.placement.tp) * (model.hidden * rows.byte))


def _norm(rows: Rows, model: ModelSpec, name: str) -> None:
    m = ceil_div(rows.m, rows.placement.tp) if rows.placement.sequence_parallel else rows.m
    weight = model.hidden * (2 if model.norm_bias else 1)
    rows.stream(name, op.NORM, m, model.hidden, NORM_FLOP[model.norm], weight=weight)


def _embedding(rows: Rows, model: ModelSpec) -> None:
    """Rows of the vocabulary held here (each device looks its own up, then they are summed)."""
    h, tp = model.hidden, rows.placement.tp
    row_byte = rows.formats.weight_byte("embedding") / tp + (rows.byte if model.position_row else 0.0)
    rows.add(
        "embed",
        op.EMBED,
        m=rows.m,
        n=h,
        flop=rows.m * (float(h) if model.position_row else 0.0),
        act_byte=rows.m * (h * row_byte),
        write_byte=rows.m * (h * rows.byte),
    )
    reduce_hidden(rows, "embed", h)
    side = sum(block.side * count for block, count in model.num_block().items())
    if side:  # the layers' own embeddings: a row of each looked up, joined with a projection of the first one
        rows.gemm("side_proj", rows.m, side, h, "ffn")
        width = max(block.side for block in model.block)
        rows.stream("side_embed", op.NORM, rows.m, side, NORM_FLOP["rms"] + ADD_FLOP, read=2, weight=width)
    if model.embed_norm:
        _norm(rows, model, "embed_norm")


def lower_head(
    model: ModelSpec, formats: Formats, placement: Placement, stage: int, num_sampled: npt.ArrayLike
) -> op.OpTable:
    """LM head, gather of the vocabulary shards and sampling for `num_sampled` rows; empty before the last stage."""
    rows = Rows(formats, placement, num_sampled, stage)
    if stage == placement.pp - 1:
        vocab, tp = ceil_div(model.vocab, placement.tp), placement.tp
        part = "embedding" if model.tied else "head"
        rows.gemm("lm_head", rows.m, vocab, model.hidden, part, bias=vocab if model.head_bias else 0)
        rows.link("logit_gather", op.ALL_GATHER, "tp", tp, rows.m * (float(vocab) * tp * rows.byte))
        rows.stream("sample", op.SAMPLE, rows.m, model.vocab, SAMPLE_FLOP, write=0.0)
    return rows.table()


def lower_attention(
    model: ModelSpec, formats: Formats, placement: Placement, stage: int, work: op.WorkTable, phase: str
) -> op.OpTable:
    """One operator for each attention class of the stage (layers of one shape and window), and the convolution and
    scan of each recurrent kind, all on the rows
    `work` (`work_start` 0; `lower_step` shifts it). `phase` is "prefill" or "decode".

    FLOPs are those of the two products, `2 (head_dim + v_head_dim)` a visible query-key pair a head; KV bytes
    are the keys and values that a sequence's queries see, once.

    Latent attention: decode runs absorbed (one shared head of `kv_rank + rope_dim` against the stored latent,
    `kv_rank` wide values), prefill expanded (a key and a value a head, in the activations' format; the
    expansion of the new tokens is `v_up` and `k_up` of `lower_dense`, same FLOPs; a cached prefix is
    taken as expanded already).
    """
    refuse_unpriced(model)
    start, stop = placement.stages(model.num_layer)[stage]
    classes = model.attention_class(start, stop) if len(work) else {}
    rows = Rows(formats, placement, 1, stage)
    for attention, count in classes.items():
        rows.count = count
        attention_row(rows, attention, work, phase)
    for mixer, count in (model.mixer_class(start, stop) if len(work) else {}).items():
        rows.count = count
        mixer.scan(rows, work, phase == "decode")
    return rows.table()


def attention_row(rows: Rows, a: Attention, work: op.WorkTable, phase: str, offset: int = 0) -> None:
    """One attention operator on `work`, which begins at row `offset` of the step's work table."""
    decode = phase == "decode"
    absorbed = a.latent and (decode or a.absorbed)
    head, kv_head, dim, v_dim = attention_shape(a, 1 if a.replicated else rows.placement.tp, decode)
    width = dim if absorbed else kv_head * (dim + v_dim)  # the absorbed latent is key and value at once
    stored = absorbed or not a.latent
    kv_format = (a.kv_format or rows.formats.kv) if stored else rows.formats.activation
    pair, seen = visible(work, a.window)
    query = float((work["count"] * work["query_len"]).sum())
    rows.add(
        "attention",
        op.ATTN_DECODE if decode else op.ATTN_PREFILL,
        kv_fmt=FORMAT_CODE[kv_format],
        phase=op.PHASE_CODE[phase],
        num_head=head,
        num_kv_head=kv_head,
        head_dim=dim,
        v_head_dim=v_dim,
        window=a.window,
        work_start=offset,
        work_stop=offset + len(work),
        flop=2.0 * pair * head * (dim + v_dim),
        kv_byte=seen * width * kv.format_byte(kv_format),
        act_byte=query * head * dim * rows.byte,
        write_byte=query * head * v_dim * rows.byte,
    )


def attention_shape(a: Attention, tp: int, decode: bool) -> tuple[int, int, int, int]:
    """`(num_head, num_kv_head, head_dim, v_head_dim)` of the attention operator on one device of `tp`.

    >>> attention_shape(Attention(128, 128, 192, 128, rope_dim=64, kv_rank=512), 8, decode=True)
    (16, 1, 576, 512)
    """
    head = ceil_div(a.num_head, tp)
    if a.latent:
        absorbed = decode or a.absorbed
        return (head, 1, a.kv_rank + a.rope_dim, a.kv_rank) if absorbed else (head, head, a.head_dim, a.v_head_dim)
    return head, ceil_div(a.num_kv_head, tp), a.head_dim, a.v_head_dim


def work_rows(query_len: npt.ArrayLike, kv_len: npt.ArrayLike) -> op.WorkTable:
    """Causal rows, one a sequence."""
    query = np.asarray(query_len, dtype=np.int64)
    _, work = op.empty(0, len(query))
    work["query_len"], work["kv_len"], work["causal"] = query, kv_len, 1
    return work


def lower_step(
    model: ModelSpec,
    formats: Formats,
    placement: Placement,
    stage: int,
    plan: Plan,
    skew: float = 0.0,
) -> tuple[op.OpTable, op.WorkTable]:
    """One iteration: operators and work rows (prefills first, then decodes)."""
    prefill = work_rows(plan.query_len[~plan.is_decode], plan.kv_len[~plan.is_decode])
    decode = work_rows(plan.query_len[plan.is_decode], plan.kv_len[plan.is_decode])
    attend = lower_attention(model, formats, placement, stage, decode, "decode")
    attend["work_start"] += len(prefill)
    attend["work_stop"] += len(prefill)
    ops = [
        lower_dense(model, formats, placement, stage, int(plan.query_len.sum()), skew),
        lower_attention(model, formats, placement, stage, prefill, "prefill"),
        attend,
        lower_head(model, formats, placement, stage, int(plan.samples.sum())),
    ]
    return np.concatenate(ops), np.concatenate([prefill, decode])
