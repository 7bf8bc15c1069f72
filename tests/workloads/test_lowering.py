"""Steps as operator tables: FLOPs and bytes by hand, and identities between tables."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import optable as op
from kernels.attention_work import keys_seen, num_pair
from workloads import models, placement
from workloads.formats import parse
from workloads.lowering import Plan, lower_attention, lower_dense, lower_head, lower_step, visible, work_rows
from workloads.models import num_param

LLAMA = models.load("llama-2-7b")
BF16 = parse("bf16")
ONE = placement.make(LLAMA)


def named(ops, name):
    return ops[ops["name"] == name.encode()]


def total(ops, column):
    return float((ops[column] * ops["count"]).sum())


def plan(query, kv, decode, samples=None):
    query, kv, decode = np.array(query), np.array(kv), np.array(decode, dtype=bool)
    return Plan(query, kv, decode, decode if samples is None else np.array(samples, dtype=bool))


def test_projections_of_llama_2_7b_by_hand():
    ops = lower_dense(LLAMA, BF16, ONE, 0, 16)
    qkv = named(ops, "qkv_proj")[0]
    assert qkv["count"] == 32
    assert (qkv["m"], qkv["n"], qkv["k"]) == (16, 3 * 4096, 4096)  # 32 heads of 128 three times, multi-head
    assert qkv["flop"] == 2 * 16 * 12288 * 4096
    assert qkv["weight_byte"] == 12288 * 4096 * 2  # bf16
    assert qkv["act_byte"] == 16 * 4096 * 2
    assert qkv["write_byte"] == 16 * 12288 * 2
    up = named(ops, "mlp_up")[0]
    assert (up["n"], up["k"]) == (2 * 11008, 4096)  # gate and up in one
    act = named(ops, "mlp_act")[0]
    assert act["act_byte"] == 2 * act["write_byte"] == 2 * 16 * 11008 * 2  # reads gate and up, writes one
    add = named(ops, "mlp_add")[0]
    assert add["flop"] == 16 * 4096
    assert add["act_byte"] == 2 * 16 * 4096 * 2


def test_intensity_of_a_gemm_tends_to_its_token_count():
    # Op/B of m x k by k x n in 2-byte values is 2mnk / 2(nk + mk + mn): 1 / (1/m + 1/n + 1/k)
    up = named(lower_dense(LLAMA, BF16, ONE, 0, 64), "mlp_up")
    assert op.op_per_byte(up)[0] == pytest.approx(1 / (1 / 64 + 1 / 22016 + 1 / 4096))


def test_grouped_queries_write_and_read_an_eighth():
    llama3 = models.load("llama-3-70b")  # 64 query heads, 8 key-value heads
    ops = lower_dense(llama3, BF16, placement.make(llama3), 0, 10)
    assert named(ops, "kv_write")[0]["write_byte"] == 10 * 2 * 8 * 128 * 2
    attend = lower_attention(llama3, BF16, placement.make(llama3), 0, work_rows([1], [1000]), "decode")[0]
    assert attend["kv_byte"] == 1000 * 2 * 8 * 128 * 2
    assert attend["flop"] == 2 * 2 * 1000 * 64 * 128  # two products of 64 heads
    assert op.op_per_byte(np.array([attend]))[0] == pytest.approx(8, rel=0.01)  # query heads a key-value head


def test_causal_prefill_is_a_triangle():
    attend = lower_attention(LLAMA, BF16, ONE, 0, work_rows([100], [100]), "prefill")[0]
    assert attend["flop"] == 2 * (100 * 101 / 2) * 32 * (128 + 128)
    assert attend["count"] == 32


def test_window_bounds_pairs_and_keys():
    rows = work_rows([10], [1000])
    assert visible(rows, 64) == (10 * 64, 64 + 9)  # every row sees 64 keys, together 73 distinct ones
    assert visible(rows, 4096) == visible(rows, 0)
    brute = sum(min(7, 5 + r + 1) for r in range(20))  # 5 cached keys, 20 new, window 7
    assert visible(work_rows([20], [25]), 7)[0] == brute


ROWS = st.lists(
    st.tuples(st.integers(1, 4), st.integers(1, 60), st.integers(0, 200), st.sampled_from([0, 1, 2])),
    min_size=1,
    max_size=5,
)


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, window=st.sampled_from([0, 1, 7, 64, 1000]))
def test_counts_are_those_of_the_attention_kernels(rows, window):
    _, work = op.empty(0, len(rows))
    for i, (count, query, prefix, causal) in enumerate(rows):
        work[i] = (count, query, query + prefix, causal)
    pair = sum(int(r["count"]) * num_pair(r["query_len"], r["kv_len"], r["causal"], window) for r in work)
    seen = sum(int(r["count"]) * keys_seen(r["query_len"], r["kv_len"], r["causal"], window) for r in work)
    assert visible(work, window) == (pair, seen)


def test_windowed_model_attends_within_its_window():
    mistral = models.load("mistral-7b")
    attend = lower_attention(mistral, BF16, placement.make(mistral), 0, work_rows([1], [10_000]), "decode")[0]
    assert attend["window"] == 4096
    assert attend["kv_byte"] == 4096 * 2 * 8 * 128 * 2


def test_shared_span_is_read_once():
    _, work = op.empty(0, 1)
    work["query_len"], work["kv_len"], work["causal"] = 32, 1024, 0  # 32 sequences' queries on one prefix
    attend = lower_attention(LLAMA, BF16, ONE, 0, work, "decode")[0]
    assert attend["kv_byte"] == 1024 * 2 * 32 * 128 * 2
    assert attend["flop"] == 32 * 1024 * 32 * 2 * 256


def test_array_of_token_counts_equals_one_by_one():
    mixtral = models.load("mixtral-8x7b")
    for kwargs in ({}, {"tp": 4}, {"tp": 4, "sequence_parallel": True}, {"tp": 2, "pp": 2, "ep": 2}):
        place = placement.make(mixtral, **kwargs)
        tokens = np.array([0, 1, 7, 512, 16384])
        table = lower_dense(mixtral, parse("fp8"), place, 0, tokens)
        for row, count in zip(table, tokens, strict=True):
            assert (row == lower_dense(mixtral, parse("fp8"), place, 0, count)).all()


def test_no_token_is_no_work():
    assert not lower_dense(LLAMA, BF16, ONE, 0, 0)["count"].any()
    assert not lower_head(LLAMA, BF16, ONE, 0, 0)["count"].any()
    assert len(lower_attention(LLAMA, BF16, ONE, 0, work_rows([], []), "decode")) == 0


@pytest.mark.parametrize("name", ["llama-2-7b", "llama-3-70b", "qwen3-8b", "yi-34b"])
def test_two_flop_a_parameter_a_token(name):
    """The rule of thumb: 2 FLOPs a parameter a token, attention aside; the embedding only looks up."""
    model = models.load(name)
    place = placement.make(model)
    flop = total(lower_dense(model, BF16, place, 0, 1000), "flop") + total(
        lower_head(model, BF16, place, 0, 1000), "flop"
    )
    used = num_param(model) - model.vocab * model.hidden * (0 if model.tied else 1)
    assert flop == pytest.approx(2 * used * 1000, rel=0.005)  # norms, rotary, activations are below 0.5 %


def test_weights_of_a_step_are_the_models():
    """A step of very many tokens reads every weight once, except the embedding rows it does not look up."""
    for name in ("llama-2-7b", "mixtral-8x7b", "qwen3-30b-a3b", "qwen2.5-7b"):
        model = models.load(name)
        place = placement.make(model)
        read = total(lower_dense(model, BF16, place, 0, 10**6), "weight_byte") + total(
            lower_head(model, BF16, place, 0, 1), "weight_byte"
        )
        assert read == pytest.approx(2 * (num_param(model) - model.vocab * model.hidden), rel=1e-9)


STEPS = st.lists(
    st.tuples(st.integers(1, 300), st.integers(0, 3000), st.booleans(), st.booleans()), min_size=1, max_size=8
)


@settings(max_examples=20, deadline=None)
@given(steps=STEPS, tp=st.sampled_from([1, 2, 4]), pp=st.sampled_from([1, 2, 3]))
def test_step_equals_its_parts_and_stages_the_whole(steps, tp, pp):
    query = [1 if decode else q for q, _, decode, _ in steps]
    kv = [p + q for q, (_, p, _, _) in zip(query, steps, strict=True)]
    step = plan(query, kv, [d for _, _, d, _ in steps], [s for *_, s in steps])
    place = placement.make(LLAMA, tp=tp, pp=pp)
    stages = [lower_step(LLAMA, BF16, place, s, step) for s in range(pp)]
    for s, (ops, work) in enumerate(stages):
        parts = [
            lower_dense(LLAMA, BF16, place, s, sum(query)),
            lower_head(LLAMA, BF16, place, s, int(step.samples.sum())),
            *(
                lower_attention(LLAMA, BF16, place, s, work_rows(step.query_len[m], step.kv_len[m]), phase)
                for phase, m in (("prefill", ~step.is_decode), ("decode", step.is_decode))
            ),
        ]
        for column in ("flop", "weight_byte", "act_byte", "kv_byte", "write_byte", "link_byte"):
            assert total(ops, column) == pytest.approx(sum(total(p, column) for p in parts), rel=1e-12)
        assert len(work) == len(steps)
        for row in ops[np.isin(ops["kind"], [op.ATTN_PREFILL, op.ATTN_DECODE])]:
            assert 0 <= row["work_start"] < row["work_stop"] <= len(work)
    whole, _ = lower_step(LLAMA, BF16, placement.make(LLAMA, tp=tp), 0, step)
    for column in ("flop", "weight_byte", "act_byte", "kv_byte", "write_byte"):
        assert sum(total(ops, column) for ops, _ in stages) == pytest.approx(total(whole, column), rel=1e-12)


SPLIT = [op.GEMM, op.ATTN_PREFILL, op.ATTN_DECODE, op.ACT, op.ROPE, op.KV_WRITE]


@pytest.mark.parametrize("name", ["llama-2-7b", "llama-3-70b", "qwen3-8b"])
@pytest.mark.parametrize("tp", [2, 4, 8])
def test_tensor_parallel_shares_add_up(name, tp):
    model = models.load(name)
    step = plan([1, 1, 50], [400, 30, 70], [True, True, False])
    one, _ = lower_step(model, BF16, placement.make(model), 0, step)
    share, _ = lower_step(model, BF16, placement.make(model, tp=tp), 0, step)
    for column in ("flop", "weight_byte", "kv_byte"):
        for kind in SPLIT:
            assert tp * total(share[share["kind"] == kind], column) == pytest.approx(
                total(one[one["kind"] == kind], column), rel=1e-4
            )  # biases after a split are replicated
    for name_ in ("attn_norm", "attn_add"):  # replicated
        assert total(named(share, name_), "flop") == total(named(one, name_), "flop")


def test_key_value_heads_are_replicated_beyond_their_number():
    model = models.load("llama-3-70b")  # 8 key-value heads on 16 devices: one each, twice
    place = placement.make(model, tp=16)
    assert named(lower_dense(model, BF16, place, 0, 4), "qkv_proj")[0]["n"] == (4 + 2) * 128


@settings(max_examples=20, deadline=None)
@given(prompt=st.integers(2, 4000), num_chunk=st.integers(1, 12))
def test_chunks_add_up_to_the_whole_prefill(prompt, num_chunk):
    """Chunking changes neither the pairs nor the projections' FLOPs; it reads earlier keys again."""
    chunk = -(-prompt // num_chunk)
    ends = [*range(chunk, prompt, chunk), prompt]
    lens = np.diff([0, *ends])
    pieces = [lower_step(LLAMA, BF16, ONE, 0, plan([q], [e], [False]))[0] for q, e in zip(lens, ends, strict=True)]
    whole, _ = lower_step(LLAMA, BF16, ONE, 0, plan([prompt], [prompt], [False]))
    assert sum(total(p, "flop") for p in pieces) == pytest.approx(total(whole, "flop"), rel=1e-12)
    width = 2 * 32 * 128 * 2 * 32  # keys and values, heads, bytes, layers
    assert sum(total(p, "kv_byte") for p in pieces) == sum(ends) * width


def test_sequence_parallelism_moves_the_same_bytes():
    """Reduce-scatter and all-gather are the two halves of an all-reduce (arXiv 2205.05198)."""
    plain = lower_dense(LLAMA, BF16, placement.make(LLAMA, tp=4), 0, 64)
    split = lower_dense(LLAMA, BF16, placement.make(LLAMA, tp=4, sequence_parallel=True), 0, 64)
    per_layer = split[split["count"] == 32]
    scatter = per_layer[per_layer["kind"] == op.REDUCE_SCATTER]
    gather = per_layer[per_layer["kind"] == op.ALL_GATHER]
    reduce = plain[(plain["kind"] == op.ALL_REDUCE) & (plain["count"] == 32)]
    assert scatter["link_byte"].sum() == gather["link_byte"].sum() == reduce["link_byte"].sum() == 2 * 64 * 4096 * 2
    assert named(split, "attn_norm")[0]["m"] == 16  # a quarter of the tokens
