"""The encoder of images as prompt work: operators of one device for a batch of images, before the prompt that holds
them. Attention is not causal: every patch sees every patch of its own image. The encoder lies whole on each device, and
images are spread over the devices of a replica; its weights and activations are in 16 bits, as checkpoints ship it.
"""

from collections.abc import Sequence

import numpy as np

from kernels import optable as op
from kernels.errors import InputError
from workloads.formats import Formats
from workloads.models.vision import Vision
from workloads.placement import Placement
from workloads.rows import ACT_FLOP, ADD_FLOP, NORM_FLOP, Rows


def image_patch(v: Vision, width: int, height: int) -> int:
    """Patches of an image of so many pixels: `merge` x `merge` for each token of the language model."""
    return v.num_token(width, height) * v.merge**2


def lower_encoder(v: Vision, formats: Formats, num_patch: Sequence[int]) -> tuple[op.OpTable, op.WorkTable]:
    """Operators and work rows for images of `num_patch` patches each.

    >>> from workloads.models.vision import Vision
    >>> qwen = Vision(27, 1152, 4304, 16, 16, 2, 2, 4096, num_merger=4)
    >>> ops, work = lower_encoder(qwen, Formats(), [image_patch(qwen, 1024, 1024)])
    >>> int(work["query_len"][0]), round(float((ops["flop"] * ops["count"]).sum()) / 1e12, 2)
    (4096, 5.8)
    """
    patches = np.asarray(num_patch, np.int64)
    if patches.ndim != 1 or (patches < 1).any():
        raise InputError("not images", field="num_patch", value=list(num_patch), allowed="patches of each, 1 or more")
    _, work = op.empty(0, len(patches))
    work["query_len"], work["kv_len"], work["causal"] = patches, patches, 2
    rows = Rows(formats, Placement(), int(patches.sum()))
    m, h = rows.m, v.hidden
    rows.gemm("patch_embed", m, h, 3 * v.frame * v.patch**2, "activation")
    rows.count = v.num_layer
    rows.stream("attn_norm", op.NORM, m, h, NORM_FLOP["layer"], weight=2 * h)
    rows.gemm("qkv_proj", m, 3 * h, h, "activation", bias=3 * h)
    _attention(rows, v, patches, len(work))
    rows.gemm("o_proj", m, h, h, "activation", bias=h)
    rows.stream("attn_add", op.ADD, m, h, ADD_FLOP, read=2)
    rows.stream("mlp_norm", op.NORM, m, h, NORM_FLOP["layer"], weight=2 * h)
    up = 2 if v.gated else 1
    rows.gemm("mlp_up", m, up * v.inter, h, "activation", bias=up * v.inter)
    rows.stream("mlp_act", op.ACT, m, v.inter, ACT_FLOP, read=up)
    rows.gemm("mlp_down", m, h, v.inter, "activation", bias=h)
    rows.stream("mlp_add", op.ADD, m, h, ADD_FLOP, read=2)
    rows.count = v.num_merger
    token, merged = m // v.merge**2, h * v.merge**2
    rows.stream("merge_norm", op.NORM, m, h, NORM_FLOP["layer"], weight=2 * h)
    rows.gemm("merge_up", token, merged, merged, "activation", bias=merged)
    rows.stream("merge_act", op.ACT, token, merged, ACT_FLOP)
    rows.gemm("merge_down", token, v.out, merged, "activation", bias=v.out)
    return rows.table(), work


def _attention(rows: Rows, v: Vision, patches: np.ndarray, num_image: int) -> None:
    dim = v.hidden // v.num_head
    pair, seen = float((patches.astype(float) ** 2).sum()), float(patches.sum())
    rows.add(
        "attention",
        op.ATTN_PREFILL,
        kv_fmt=rows.formats.code("activation"),
        phase=op.PHASE_CODE["prefill"],
        num_head=v.num_head,
        num_kv_head=v.num_head,
        head_dim=dim,
        v_head_dim=dim,
        work_stop=num_image,
        flop=4.0 * pair * v.hidden,
        kv_byte=seen * 2 * v.hidden * rows.byte,
        act_byte=seen * v.hidden * rows.byte,
        write_byte=seen * v.hidden * rows.byte,
    )
