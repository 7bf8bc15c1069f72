"""A step of a model whose attention and feed-forward parts are computed on different machines.

The attention side holds embedding, norms, attention with its KV, residual adds, head, and of layers with experts the
router and shared experts, as it does wherever experts lie on other devices. The feed-forward side holds dense
feed-forward parts and routed experts, `tp` devices to each of `ep` groups. Twice a layer every token goes over the
network: each device of the attention side sends its `1 / tp` of its group's tokens, as between pipeline stages, to
every group that holds one of their experts (dense parts: to one), whose devices gather what they got, and
reduce-scatter what they send back. Tokens spread evenly over the devices of a side.
"""

import dataclasses

import numpy.typing as npt

from kernels import optable as op
from kernels.errors import InputError
from workloads import layers
from workloads.experts import distinct_rank
from workloads.formats import Formats
from workloads.lowering import enter_stage, leave_stage, refuse_unpriced
from workloads.memory import weight_byte
from workloads.models.spec import NO_FFN, Block, FeedForward, ModelSpec
from workloads.placement import Placement
from workloads.rows import ADD_FLOP, Rows, ceil_div

THERE, BACK = "to_ffn", "from_ffn"


def check(model: ModelSpec, field: str, value: str) -> None:
    """An `InputError` on `field` = `value` where layers of the model have no two parts that follow each other."""
    for block in model.block:
        a = block.attention
        why = (
            "has recurrent layers" if block.mixer is not None
            else "has layers of one part" if not a.num_head or block.ffn.empty
            else "has layers that attend and feed forward side by side" if block.parallel
            else "chooses its keys by an indexer" if a.indexer is not None
            else "has embeddings of the layers' own" if block.side
            else ""
        )  # fmt: skip
        if why:
            raise InputError(f"{model.name} {why}, which nobody has laid over two machines", field=field,
                             value=value, allowed="empty; or another model")  # fmt: skip


def ffn_placement(tp: int, ep: int, device_per_node: int) -> Placement:
    """The feed-forward side: `ep` groups of `tp` devices; each group has its share of the experts, whole layers of
    dense parts and its share of their tokens."""
    return Placement(tp=tp, ep=ep, attn_dp=ep, sequence_parallel=tp > 1, device_per_node=device_per_node)


def attention_side(model: ModelSpec) -> ModelSpec:
    """The model without what lies on the feed-forward side: what its weights, KV and activations take here."""

    def near(block: Block) -> Block:
        f = block.ffn
        if not f.num_expert:
            return dataclasses.replace(block, ffn=NO_FFN)
        return dataclasses.replace(block, ffn=dataclasses.replace(f, expert_inter=0, bias=f.bias and f.inter > 0))

    return dataclasses.replace(model, block=tuple(near(block) for block in model.block))


def ffn_weight_byte(model: ModelSpec, formats: Formats, ffn: Placement) -> dict[str, int]:
    """Weight bytes of one device of the feed-forward side by part of the model."""
    whole, near = (weight_byte(one, formats, ffn, 0) for one in (model, attention_side(model)))
    return {part: whole[part] - near[part] for part in ("ffn", "expert")}


def ffn_activation_byte(model: ModelSpec, formats: Formats, ffn: Placement, num_token: int) -> float:
    """Peak activation bytes of one device of the feed-forward side for steps of `num_token` tokens, all microbatches at
    once: what came, the widest tensors of a layer, and what goes back."""
    byte, widest = formats.act_byte("activation"), 0.0
    for block in model.block:
        f = block.ffn
        inter = f.expert_inter * f.topk if f.num_expert else f.inter
        wide = (f.latent or model.hidden) * (f.topk if f.num_expert else 1)
        widest = max(widest, 2.0 * wide + (f.num_up + 1) * inter / ffn.tp)
    return num_token / ffn.ep * byte * widest


def lower_attention_side(
    model: ModelSpec, formats: Formats, placement: Placement, ffn: Placement, num_token: npt.ArrayLike, skew: float
) -> tuple[op.OpTable, op.OpTable]:
    """What a device of the attention side does for `num_token` tokens of its group, attention and head apart: once a
    step, and in the layers; sends are rows of P2P named `THERE` and `BACK`."""
    refuse_unpriced(model)
    ends = Rows(formats, placement, num_token)
    enter_stage(ends, model)
    leave_stage(ends, model)
    rows = Rows(formats, placement, num_token)
    for block, count in model.dense_class().items():
        rows.count = count
        layers.add_block(rows, model, block, skew, lambda rows, f, h, skew: _hand_over(rows, f, h, ffn))
    return ends.table(), rows.table()


def _hand_over(rows: Rows, f: FeedForward, h: int, ffn: Placement) -> None:
    p = rows.placement
    own, wide = ceil_div(rows.m, p.tp), f.latent or h
    if f.num_expert:
        layers.add_router(rows, f, h, own)
        layers.add_latent_in(rows, f, h, own)
        if rows.formats.converts("expert"):
            rows.convert("experts", own, wide, "expert")
    sent, returned = row_byte(f, h, rows.formats, ffn)
    _send(rows, THERE, own * sent)
    _send(rows, BACK, own * returned)
    copies = _copies(f, ffn)
    if copies > 1:
        rows.stream("expert_sum", op.ADD, own, wide, 2.0 * copies, read=copies)
    if f.latent:
        layers.add_latent_out(rows, f, h, own)
    if not p.sequence_parallel:
        rows.link("token_gather", op.ALL_GATHER, "tp", p.tp, rows.m * (h * rows.byte))
    if f.num_expert and f.inter:
        layers.gather_hidden(rows, "shared", h)
        layers.add_dense(rows, f, h, "shared")
        layers.reduce_hidden(rows, "shared", h)
        rows.stream("shared_add", op.ADD, own if p.sequence_parallel else rows.m, h, ADD_FLOP, read=2)


def _copies(f: FeedForward, ffn: Placement) -> float:
    """Groups of the feed-forward side that a token goes to."""
    return distinct_rank(f.num_expert, f.topk, ffn.ep) if f.num_expert else 1.0


def row_byte(f: FeedForward, h: int, formats: Formats, ffn: Placement) -> tuple[float, float]:
    """Bytes of a token on the way there and back, its copies counted: experts get it in their own format (narrow values
    carry an fp32 scale for 128 of them).

    >>> from workloads.formats import parse
    >>> row_byte(FeedForward(11008), 4096, parse("bf16"), ffn_placement(1, 1, 8))
    (8192.0, 8192.0)
    >>> mixtral = FeedForward(0, num_expert=8, topk=2, expert_inter=14336)
    >>> row_byte(mixtral, 4096, parse("bf16"), ffn_placement(1, 8, 8))
    (16384.0, 16384.0)
    """
    byte, wide, copies = formats.act_byte("activation"), f.latent or h, _copies(f, ffn)
    value = formats.act_byte("expert") if f.num_expert else byte
    sent = float(int(wide * (value + (1 / 32 if value == 1 else 0))))
    return copies * sent, copies * wide * byte


def _send(rows: Rows, name: str, link_byte: npt.ArrayLike) -> None:
    rows.add(name, op.P2P, link_byte=link_byte, group_size=2, group_node=2)


def lower_ffn_side(
    model: ModelSpec, formats: Formats, ffn: Placement, num_token: npt.ArrayLike, skew: float
) -> op.OpTable:
    """What a device of the feed-forward side does for `num_token` tokens of all attention groups, all layers."""
    rows = Rows(formats, ffn, num_token)
    total, share = rows.m, ceil_div(rows.m, ffn.ep)
    h = model.hidden
    for block, count in model.dense_class().items():
        rows.count, f = count, block.ffn
        sent, returned = (byte / ffn.ep for byte in row_byte(f, h, formats, ffn))
        _send(rows, THERE, total * (sent / ffn.tp))
        if f.num_expert:
            rows.link("expert_gather", op.ALL_GATHER, "tp", ffn.tp, total * sent)
            layers.add_experts(rows, f, f.latent or h, total, skew)
            rows.link("expert_scatter", op.REDUCE_SCATTER, "tp", ffn.tp, total * returned)
        else:
            rows.m = share
            layers.gather_hidden(rows, "mlp", h)
            layers.add_dense(rows, f, h)
            layers.reduce_hidden(rows, "mlp", h)
            rows.m = total
        _send(rows, BACK, total * (returned / ffn.tp))
    return rows.table()
