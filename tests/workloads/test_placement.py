"""Parallel groups: what is allowed, which layers a stage has, how many nodes a group spans."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.errors import InputError
from workloads import models
from workloads.placement import Placement, make


@given(pp=st.integers(1, 40), layers=st.integers(40, 130))
def test_stages_tile_the_layers_evenly(pp, layers):
    stages = Placement(pp=pp).stages(layers)
    assert stages[0][0] == 0
    assert stages[-1][1] == layers
    assert all(a[1] == b[0] for a, b in itertools.pairwise(stages))
    sizes = [b - a for a, b in stages]
    assert max(sizes) - min(sizes) <= 1
    assert pp == 1 or sizes[-1] == min(sizes)  # the last stage has the head and is the last to grow


def test_explicit_split():
    llama = models.load("llama-2-7b")
    assert make(llama, pp=2, layer_split=(15, 17)).stages(32) == [(0, 15), (15, 32)]
    with pytest.raises(InputError, match="layer_split"):
        make(llama, pp=2, layer_split=(15, 16))


@pytest.mark.parametrize(
    ("model", "sizes", "words"),
    [
        ("llama-2-7b", {"tp": 3}, "tp = 3: does not divide the 32 attention heads"),
        ("llama-2-7b", {"tp": 0}, "tp = 0: not a group size"),
        ("llama-2-7b", {"pp": 33}, "pp = 33: more stages than layers"),
        ("llama-2-7b", {"ep": 2, "tp": 2}, "ep = 2: llama-2-7b has no experts"),
        ("falcon-7b", {"tp": 2}, "tp = 2: does not divide the 71 attention heads"),
        ("falcon-180b", {"tp": 29}, "neither split nor replicated"),  # 232 heads divide, 8 key-value heads do not
        ("mixtral-8x7b", {"tp": 4, "ep": 3}, "ep = 3: does not divide the 4 devices"),
        ("mixtral-8x7b", {"tp": 2, "ep": 4}, "ep = 4: experts of mixtral-8x7b cannot be spread over 1 x 2"),
        ("mixtral-8x7b", {"tp": 16, "ep": 16}, "ep = 16: does not divide the 8 experts"),
    ],
)
def test_what_cannot_be_laid_out_is_named(model, sizes, words):
    with pytest.raises(InputError) as caught:
        make(models.load(model), **sizes)
    assert words in str(caught.value)


def test_experts_wider_than_attention_join_replicas():
    v3 = models.load("deepseek-v3")
    place = make(v3, tp=4, dp=16, ep=32)
    assert (place.attn_dp, place.dp, place.moe_tp) == (8, 2, 1)
    assert place.num_device == 64  # as many as 16 replicas of 4


def brute_nodes(place, group, stage):
    """Nodes of the widest group, from the rank formula of the module's docstring."""
    rank = np.arange(place.num_device).reshape(place.dp, place.pp, place.attn_dp, place.tp)
    groups = {
        "tp": rank.reshape(-1, place.tp),
        "attn_dp": np.moveaxis(rank, 2, 3).reshape(-1, place.attn_dp),
        "expert": rank.reshape(-1, place.stage_device),
        "ep": np.moveaxis(rank.reshape(-1, place.ep, place.moe_tp), 1, 2).reshape(-1, place.ep),
        "dp": np.moveaxis(rank, 0, 3).reshape(-1, place.dp),
    }
    rows = groups.get(group)
    if rows is None:
        rows = np.moveaxis(rank[:, stage : stage + 2], 1, 3).reshape(-1, 2 if stage + 1 < place.pp else 1)
    return max(len(set(row // place.device_per_node)) for row in rows)


@given(
    tp=st.sampled_from([1, 2, 4, 8]),
    pp=st.integers(1, 4),
    dp=st.integers(1, 3),
    attn_dp=st.sampled_from([1, 2, 4, 16]),
    split=st.sampled_from([1, 2]),
    device_per_node=st.sampled_from([1, 4, 8]),
    group=st.sampled_from(["tp", "attn_dp", "ep", "expert", "dp", "pp"]),
)
def test_nodes_that_a_group_spans(tp, pp, dp, attn_dp, split, device_per_node, group):
    ep = max(1, tp * attn_dp // split)
    place = Placement(tp, pp, dp, ep, attn_dp, device_per_node=device_per_node)
    for stage in range(pp):
        assert place.group_node(group, stage) == brute_nodes(place, group, stage)
