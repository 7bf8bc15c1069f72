"""A step layer by layer is the collapsed step."""

import numpy as np
import pytest

from kernels import optable as op
from workloads import models, placement
from workloads.formats import parse
from workloads.lowering import Plan, lower_step
from workloads.unroll import unroll_step

PLAN = Plan(
    np.array([1, 40, 1]), np.array([300, 90, 2000]), np.array([True, False, True]), np.array([True, False, True])
)


@pytest.mark.parametrize(
    "name", ["llama-2-7b", "gemma-2-27b", "deepseek-v2-lite", "llama-4-maverick", "glam-143b", "falcon-40b"]
)
@pytest.mark.parametrize("pp", [1, 3])
def test_same_operators_as_the_collapsed_step(name, pp):
    model = models.load(name)
    place = placement.make(model, tp=2, pp=pp)
    for stage in range(pp):
        ops, work = lower_step(model, parse("fp8"), place, stage, PLAN)
        each, each_work = unroll_step(model, parse("fp8"), place, stage, PLAN)
        assert (work == each_work).all()
        assert (each["count"] == 1).all()
        each["layer"] = -1
        collapsed = [row[field] for field in ("name",) for row in ops for _ in range(row["count"])]
        assert sorted(collapsed) == sorted(each["name"])
        keys, counts = np.unique(each, return_counts=True)
        for key, count in zip(keys, counts, strict=True):
            same = ops.copy()
            same["count"] = 1
            assert ops["count"][same == key].sum() == count


def test_order_and_tags_of_layers():
    model = models.load("llama-2-7b")
    ops, _ = unroll_step(model, parse("bf16"), placement.make(model), 0, PLAN)
    layer = ops["layer"]
    assert layer[0] == layer[-1] == -1
    inside = layer[layer >= 0]
    assert (np.diff(inside) >= 0).all()
    assert set(inside) == set(range(32))
    third = ops[layer == 3]
    attend = np.flatnonzero(np.isin(third["kind"], [op.ATTN_PREFILL, op.ATTN_DECODE]))
    names = third["name"].tolist()
    assert names.index(b"kv_write") < attend[0]
    assert attend[-1] < names.index(b"o_proj")
