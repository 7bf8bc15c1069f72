"""What sequences keep: groups by rule, windows in the budget, states, compressed entries."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workloads.published_configs import DEEPSEEK_V3, PUBLISHED
from workloads import formats, kv, memory, models, placement
from workloads.formats import Formats
from workloads.kv import KvGroup
from workloads.models.catalogue import from_dict
from workloads.placement import Placement

KNOWN = {**{name: models.load(name) for name in models.names()}}
TYPED = {name: from_dict(said.config, name) for name, said in PUBLISHED.items()}


def groups(model, **sizes):
    return kv.groups(model, formats.of(model), Placement(**sizes))


@pytest.mark.parametrize(
    ("name", "length", "whole", "held"),
    # the named wrong cases at 16K: every layer of Mistral keeps 4,096, every other one of gpt-oss 128
    [("mistral-7b", 16_384, 4.0, 4096 * 131_072), ("gpt-oss-20b", 16_384, 2.0, (16_384 + 128) * 24_576)],
)
def test_windowed_layers_hold_their_window(name, length, whole, held):
    model = models.load(name)
    kept = groups(model)
    assert kv.sequence_byte(kept, length) == held
    assert kv.token_byte(kept) * length / held == pytest.approx(whole, rel=0.01)
    found = memory.budget(model, Formats(), Placement(), 80e9, context=length)
    assert found.token_capacity == found.kv * length // held
    assert found.token_capacity_at(0) == int(found.kv / found.kv_per_token)
    assert found.sequence_byte(length) == held


def test_linear_budgets_do_not_depend_on_the_length():
    llama = models.load("llama-3-8b")
    found = memory.budget(llama, Formats(), Placement(), 80e9, context=4096)
    assert {found.token_capacity_at(length) for length in (0, 1, 100, 8192)} == {int(found.kv / 131_072)}


def test_compressed_attention_keeps_entries_and_a_ring():
    v4 = {
        (group.name, group.rule, group.ratio or group.window or group.num_layer): group
        for group in groups(TYPED["DeepSeek-V4-Flash"])
    }
    ring = v4["window", "state", 128]
    assert (ring.num_layer, ring.unit_byte) == (43, 128 * 512 * 2)
    assert v4["compressed", "ratio", 4].num_layer == 21
    assert v4["compressed", "ratio", 128].byte(1280) == 20 * 10 * 512 * 2
    assert v4["index", "ratio", 4].unit_byte == 132
    tails = {group.num_layer: group.unit_byte for group in v4.values() if group.name == "pool"}
    assert tails == {20: 2 * 128 * 512 * 4, 21: 2 * 8 * 2 * (512 + 128) * 4}  # entries and gates in fp32
    assert groups(TYPED["DeepSeek-V4-Flash"], tp=8) == groups(TYPED["DeepSeek-V4-Flash"])  # one head, on every device


def test_indexers_keep_their_keys_beside():
    v32 = from_dict(DEEPSEEK_V3 | {"model_type": "deepseek_v32", "index_head_dim": 128, "index_n_heads": 64,
                                   "index_topk": 2048}, "x")  # fmt: skip
    assert [(g.name, g.num_layer, g.unit_byte) for g in groups(v32)] == [("kv", 61, 1152.0), ("index", 61, 132.0)]
    skips = {"indexer_types": ["full", "shared"] * 30 + ["full"]}
    sparse = from_dict(DEEPSEEK_V3 | {"model_type": "glm_moe_dsa", "index_head_dim": 128, "index_n_heads": 64,
                                      "index_topk": 2048} | skips, "x")  # fmt: skip
    assert {g.name: g.num_layer for g in groups(sparse)} == {"kv": 61, "index": 31}


def test_layers_that_share_keys_keep_none():
    e2b = groups(TYPED["gemma-4-E2B"])
    assert {(g.rule, g.num_layer) for g in e2b} == {("window", 12), ("linear", 3)}  # of 35


def test_a_model_without_keys_is_bounded_by_its_states():
    mamba = TYPED["mamba-2.8b"]
    kept = groups(mamba)
    state = 64 * (5120 * 3 * 2 + 5120 * 16 * 2)
    assert (kv.token_byte(kept), kv.state_byte(kept)) == (0.0, state)
    found = memory.budget(mamba, Formats(), Placement(), 80e9, context=1000)
    assert found.token_capacity // 1000 == found.kv // state
    assert found.token_capacity_at(0) == memory.UNLIMITED


def test_a_hybrid_sequence_pays_its_state_first():
    jamba = TYPED["Jamba-v0.1"]
    kept = groups(jamba)
    state = 28 * (8192 * 3 * 2 + 8192 * 16 * 2)
    assert kv.state_byte(kept) == state
    assert kv.sequence_byte(kept, 1000) == state + 1000 * 16_384


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(sorted(TYPED) + sorted(KNOWN)),
    length=st.integers(1, 300_000),
    more=st.integers(1, 1000),
    pp=st.sampled_from([1, 2, 4]),
)
def test_sequences_keep_more_the_longer_and_stages_add_up(name, length, more, pp):
    model = TYPED[name] if name in TYPED else KNOWN[name]
    kept = groups(model)
    assert 0 <= kv.sequence_byte(kept, length) <= kv.sequence_byte(kept, length + more)
    most = kv.token_byte(kept) * length + kv.state_byte(kept)
    assert kv.sequence_byte(kept, length) <= most * (1 + 1e-12)
    place = placement.make(model, pp=pp)
    stages = [kv.groups(model, formats.of(model), place, stage) for stage in range(pp)]
    assert sum(kv.sequence_byte(each, length) for each in stages) == pytest.approx(kv.sequence_byte(kept, length))


def test_units_by_rule():
    assert [KvGroup("x", rule, 1, 1.0, 10, 4).units(25) for rule in ("linear", "window", "ratio", "state")] == [
        25, 10, 6, 1
    ]  # fmt: skip
