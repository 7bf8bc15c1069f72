"""A step layer by layer, in the order of execution: what a replay on engines needs.

`lowering` collapses identical layers into one row with `count`; this is the same work with every layer's
operators one after another, each row once, tagged with its `layer` (-1 outside the layers). The two have
the same operators, so their costs are the same sum.
"""

import numpy as np

from kernels import optable as op
from workloads.formats import Formats
from workloads.layers import add_block
from workloads.lowering import (
    Plan,
    attention_row,
    enter_stage,
    leave_stage,
    lower_head,
    refuse_unpriced,
    work_rows,
)
from workloads.models.spec import Block, ModelSpec, attention_shapes
from workloads.placement import Placement
from workloads.rows import Rows

# the first of these in a layer reads attention's result
_AFTER_ATTENTION = (b"v_up", b"quant_o_a", b"o_a", b"quant_o_proj", b"o_proj")


def unroll_step(
    model: ModelSpec, formats: Formats, placement: Placement, stage: int, plan: Plan, skew: float = 0.0
) -> tuple[op.OpTable, op.WorkTable]:
    """Operators of one iteration in order, `count` 1 each, and the work rows (prefills first, then decodes).

    >>> from workloads import models
    >>> one = np.ones(1, dtype=np.int64)
    >>> ops, _ = unroll_step(models.load("llama-2-7b"), Formats(), Placement(), 0, Plan(one, 9 * one, one > 0, one > 0))
    >>> [name.decode() for name in ops["name"][:7]]
    ['embed', 'attn_norm', 'qkv_proj', 'rope', 'kv_write', 'attention', 'o_proj']
    """
    refuse_unpriced(model)
    start, stop = placement.stages(model.num_layer)[stage]
    num_token = int(plan.query_len.sum())
    prefill = work_rows(plan.query_len[~plan.is_decode], plan.kv_len[~plan.is_decode])
    decode = work_rows(plan.query_len[plan.is_decode], plan.kv_len[plan.is_decode])
    before, after = (Rows(formats, placement, num_token, stage) for _ in range(2))
    enter_stage(before, model)
    leave_stage(after, model)
    tables = {
        block: _layer(model, formats, placement, stage, block, num_token, (prefill, decode), skew)
        for block in model.num_block(start, stop)
    }
    parts = [before.table()]
    for layer in range(start, stop):
        table = tables[model.block[model.layer[layer]]].copy()
        table["layer"] = layer
        parts.append(table)
    parts += [after.table(), lower_head(model, formats, placement, stage, int(plan.samples.sum()))]
    ops = np.concatenate(parts)
    return ops[ops["count"] > 0], np.concatenate([prefill, decode])


def _layer(
    model: ModelSpec,
    formats: Formats,
    placement: Placement,
    stage: int,
    block: Block,
    num_token: int,
    works: tuple[op.WorkTable, op.WorkTable],
    skew: float,
) -> op.OpTable:
    """One layer's operators with attention in its place."""
    dense, attend = Rows(formats, placement, num_token, stage), Rows(formats, placement, 1, stage)
    add_block(dense, model, block, skew)
    offset = 0
    for work, phase in zip(works, ("prefill", "decode"), strict=True):
        if len(work):
            for shape in attention_shapes(block.attention):
                attention_row(attend, shape, work, phase, offset)
            if block.mixer is not None:
                block.mixer.scan(attend, work, phase == "decode")
        offset += len(work)
    table = dense.table()
    place = next((i for i, name in enumerate(table["name"]) if name in _AFTER_ATTENTION), len(table))
    return np.concatenate([table[:place], attend.table(), table[place:]])
