"""Attention times: speed of light, identities of the work list, monotony."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_models import catalog
from hw_models.device import cost, machine
from kernels import optable as op
from kernels.attention import (
    ATTENTION_FIT,
    IDEAL_ATTENTION,
    NUM_FEATURE,
    PADDED,
    attention_op_s,
    decode_s,
    prefill_add,
    prefill_s,
)
from kernels.attention_work import CAUSAL, FULL, SPAN, attention_shape, keys_seen, longest_span
from kernels.formats import FORMAT_CODE
from kernels.machine import L2_BYTE, MEM_BYTE_PER_S, NUM_CORE, NUM_FIT, RATES
from kernels.optable import ATTN_DECODE, BOUND_COMPUTE, BOUND_LAUNCH, BOUND_MEMORY, WORK_DTYPE
from sim.validate.ops import validate_ops
from tests.shared_data import folder

PEAK = 312e12  # A100 bf16, NVIDIA datasheet
RATE = np.zeros(len(RATES))
RATE[MEM_BYTE_PER_S], RATE[NUM_CORE], RATE[L2_BYTE] = 2039e9, 108, 40e6
IDEAL = np.array(IDEAL_ATTENTION)
FIT = np.array(IDEAL_ATTENTION)
for name, value in {
    "launch_s": 5e-6, "seq_s": 1e-8, "cta_s": 1e-6, "dim_s": 1e-9, "row_s": 1e-11, "compute_eff": 0.8,
    "soft_flop": 100, "tail": 0.5, "mem_eff": 0.9, "p": 3.0, "split_s": 1e-7, "split_max": 32, "merge_s": 3e-6,
    "mask_s": 1e-6, "mask_power": 1, "tile_q": 64, "tile_kv_value": 16384, "tile_kv_max": 128, "split_group": 1,
    "cold_s": 3e-6,
}.items():  # fmt: skip
    FIT[ATTENTION_FIT.index(name)] = value
WHOLE = FIT.copy()  # the same kernel, never splitting a span
WHOLE[ATTENTION_FIT.index("split_group")] = 0
COMBINE_S = 3e-6 + 32 * 1e-7  # a grid that fills the cores is no longer split: it may gain this, and no more
SHAPE = attention_shape(32, 8, 128, 128, 0, 2.0)


def work(*rows: tuple[int, int, int, int]) -> np.ndarray:
    return np.array(list(rows), WORK_DTYPE)


def prefill(rows: list[tuple[int, int, int, int]], shape=SHAPE, fit=FIT) -> tuple[float, float, int]:
    acc = np.zeros(NUM_FEATURE)
    for row in rows:
        prefill_add(acc, *row, shape, fit)
    return prefill_s(acc, shape, PEAK, RATE, fit)


def test_ideal_decode_reads_the_cache_at_memory_bandwidth() -> None:
    seconds, ideal_s, bound = decode_s(64, 1, 64 * 1000, 1000, SHAPE, PEAK, RATE, IDEAL)
    byte = 64 * 1000 * 4096 + 64 * 16384  # keys x 8 x 256 x 2 B, then query and output rows of 32 x 128 x 2 B each
    assert seconds == ideal_s == pytest.approx(byte / 2039e9)
    assert bound == BOUND_MEMORY
    # Op/B of decode with a group of 4: 2 x 32 x 256 FLOP a key over 4096 B
    assert 64 * 1000 * 2 * 32 * 256 / (64 * 1000 * 4096) == 4


def test_ideal_prefill_multiplies_at_peak() -> None:
    seconds, ideal_s, bound = prefill([(1, 8192, 8192, CAUSAL)], fit=IDEAL)
    assert seconds == ideal_s == pytest.approx(8192 * 8193 / 2 * 2 * 32 * 256 / PEAK)
    assert bound == BOUND_COMPUTE


def test_no_work_takes_no_time() -> None:
    assert decode_s(0, 1, 0, 0, SHAPE, PEAK, RATE, FIT) == (0.0, 0.0, BOUND_LAUNCH)
    assert prefill([]) == (0.0, 0.0, BOUND_LAUNCH)
    assert attention_op_s(work(), True, SHAPE, PEAK, RATE, FIT)[0] == 0.0


shapes = st.builds(
    lambda kv, group, dim, window, byte: attention_shape(kv * group, kv, dim, dim, window, byte),
    st.sampled_from([1, 4, 8]), st.sampled_from([1, 3, 8]), st.sampled_from([64, 128, 256]),
    st.sampled_from([0, 128, 4096]), st.sampled_from([2.0, 1.0, 0.25]),
)  # fmt: skip


@pytest.mark.parametrize(("fit", "slack_s"), [(WHOLE, 1e-12), (FIT, COMBINE_S)])
@given(shape=shapes, num_seq=st.integers(1, 300), kv_len=st.integers(1, 20000))
@settings(max_examples=60, deadline=None)
def test_decode_is_slower_than_light_and_monotone(shape, num_seq: int, kv_len: int, fit, slack_s: float) -> None:
    def of(num_seq: int, kv_len: int, shape=shape) -> float:
        keys = keys_seen(1, kv_len, CAUSAL, int(shape[4]))
        seconds, ideal_s, _ = decode_s(
            num_seq, 1, num_seq * keys, longest_span(kv_len, int(shape[4])), shape, PEAK, RATE, fit
        )
        assert seconds >= ideal_s > 0
        return seconds

    least_s = of(num_seq, kv_len) - slack_s
    assert of(num_seq, kv_len + 300) >= least_s
    assert of(num_seq + 1, kv_len) >= least_s
    assert of(num_seq, kv_len, attention_shape(2 * shape[0], 2 * shape[1], *shape[2:])) >= least_s


@pytest.mark.parametrize(("fit", "slack_s"), [(WHOLE, 1e-12), (FIT, COMBINE_S)])
@given(
    shape=shapes, count=st.integers(1, 20), query=st.integers(1, 3000), prefix=st.integers(0, 3000),
    causal=st.sampled_from([SPAN, CAUSAL]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_prefill_is_slower_than_light_and_monotone(shape, count, query, prefix, causal, fit, slack_s: float) -> None:
    def of(count: int, query: int, prefix: int, shape=shape) -> float:
        seconds, ideal_s, _ = prefill([(count, query, prefix + query, causal)], shape, fit)
        assert seconds >= ideal_s > 0
        return seconds

    least_s = of(count, query, prefix) - slack_s
    assert of(count, query + 200, prefix) >= least_s
    if shape[4] == 0:  # a window may fall on block borders better further on
        assert of(count, query, prefix + 300) >= least_s
    assert of(count + 1, query, prefix) >= least_s
    assert of(count, query, prefix, attention_shape(2 * shape[0], 2 * shape[1], *shape[2:])) >= least_s


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9000)), min_size=1, max_size=12), st.sampled_from([0, 512]))
@settings(max_examples=60, deadline=None)
def test_a_decode_list_is_priced_from_its_running_sums(batch: list[tuple[int, int]], window: int) -> None:
    shape = attention_shape(32, 8, 128, 128, window, 2.0)
    keys = [(count, keys_seen(1, kv, CAUSAL, window)) for count, kv in batch]
    sums = (sum(c for c, _ in keys), 1, sum(c * k for c, k in keys), max(longest_span(kv, window) for _, kv in batch))
    rows = work(*[(count, 1, kv, CAUSAL) for count, kv in batch])
    assert attention_op_s(rows, True, shape, PEAK, RATE, FIT) == decode_s(*sums, shape, PEAK, RATE, FIT)


def test_a_prefill_list_is_priced_from_its_features() -> None:
    rows = [(1, 512, 512, CAUSAL), (3, 100, 900, CAUSAL), (1, 64, 2048, SPAN)]
    assert attention_op_s(work(*rows), False, SHAPE, PEAK, RATE, FIT) == prefill(rows)
    assert prefill(rows) == prefill(rows[::-1])  # sums and a maximum: the order is nothing
    assert prefill([(3, 64, 64, CAUSAL)]) == prefill([(1, 64, 64, CAUSAL)] * 3)


def test_a_window_makes_long_spans_cost_the_same() -> None:
    shape = attention_shape(32, 8, 128, 128, 1024, 2.0)
    keys = keys_seen(1, 50_000, CAUSAL, 1024)
    assert keys == 1024
    near = decode_s(8, 1, 8 * 1024, longest_span(1025, 1024), shape, PEAK, RATE, FIT)[0]
    assert near == decode_s(8, 1, 8 * keys, longest_span(50_000, 1024), shape, PEAK, RATE, FIT)[0]
    full = decode_s(8, 1, 8 * 50_000, 50_000, SHAPE, PEAK, RATE, FIT)[0]
    assert near < full / 5


def test_sharing_a_span_pays_when_the_span_is_long() -> None:
    prefix, own, batch = 8192, 128, 32
    apart = decode_s(batch, 1, batch * (prefix + own), prefix + own, SHAPE, PEAK, RATE, FIT)[0]
    shared = prefill([(1, batch, prefix, SPAN)])[0] + decode_s(batch, 1, batch * own, own, SHAPE, PEAK, RATE, FIT)[0]
    assert shared < apart / 8
    merged = prefill([(1, batch, prefix, SPAN)])[0] - prefill([(1, batch, prefix, FULL)])[0]
    row_byte = 32 * (3 * 128 * 2 + 3 * 4)  # two 16-bit partials read, one written, three fp32 log-sum-exps a head
    assert merged == pytest.approx(3e-6 + batch * row_byte / (2039e9 * 0.9))


def core_fit(**change: float) -> np.ndarray:
    """Only CTAs cost: one microsecond each beside their blocks."""
    fit = np.array(IDEAL_ATTENTION)
    base = {"cta_s": 1e-6, "compute_eff": 1.0, "split_max": 32, "tile_q": 128, "tile_kv_value": 16384,
            "tile_kv_max": 128}  # fmt: skip
    for name, value in {**base, **change}.items():
        fit[ATTENTION_FIT.index(name)] = value
    return fit


def test_spans_are_split_only_where_it_is_a_gain() -> None:
    dear, cheap = (core_fit(split_group=1, split_s=s) for s in (1e-3, 0.0))
    for num_seq in (1, 4, 14, 15, 100):
        arguments = num_seq, 1, num_seq * 8192, 8192, SHAPE, PEAK, RATE
        whole = decode_s(*arguments, core_fit())[0]
        assert decode_s(*arguments, dear)[0] == whole
        assert decode_s(*arguments, cheap)[0] <= whole


def test_parts_have_the_blocks_that_a_core_has_to_do() -> None:
    """One sequence, 8 KV heads, 108 cores: 8 x 128 blocks of 64 keys (half of 128, for 256 values) are 9.5 a core;
    with a tenth more, 11; a head's span is cut in 12."""
    shape = attention_shape(32, 8, 256, 256, 0, 2.0)
    fit = core_fit(split_group=1)
    block_s = 128 * 64 * 4 * 256 / (PEAK / 108)
    seconds = decode_s(1, 1, 8192, 8192, shape, PEAK, RATE, fit)[0]
    assert seconds == pytest.approx(1e-6 + 11 * block_s)


def test_a_kernel_without_a_schedule_splits_always_in_a_graph() -> None:
    """512 short sequences in 32 parts are 16,384 CTAs of a microsecond on 108 cores; 513 run without the graph."""
    short = attention_shape(1, 1, 512, 512, 0, 2.0)
    always = core_fit(split_group=0.5)
    in_graph = decode_s(512, 1, 512, 1, short, PEAK, RATE, always)[0]
    assert in_graph == pytest.approx(512 * 32 * 1e-6 / 108, rel=0.1)  # and a block a sequence
    assert decode_s(513, 1, 513, 1, short, PEAK, RATE, always)[0] < in_graph / 8


def test_a_padded_batch_costs_as_one_of_equal_sequences() -> None:
    fit = np.zeros(NUM_FIT)
    fit[: len(IDEAL_ATTENTION)] = IDEAL_ATTENTION
    rate, shape = np.ones(len(RATES)), attention_shape(2, 1, 4, 4, 0, 2.0)
    own = decode_s(3, 1, 30, 20, shape, 1.0, rate, fit)
    fit[PADDED] = 1.0
    padded, equal = (decode_s(3, 1, kv_sum, 20, shape, 1.0, rate, fit) for kv_sum in (30, 60))
    assert padded == equal
    assert padded[0] > own[0]  # 60 keys are read, not 30


def test_unlike_numbers_of_queries_are_padded_to_the_most() -> None:
    fit = np.zeros(NUM_FIT)
    fit[: len(IDEAL_ATTENTION)] = IDEAL_ATTENTION
    fit[PADDED] = 1.0
    ragged, equal = work((1, 3, 40, CAUSAL), (1, 5, 20, CAUSAL)), work((2, 5, 40, CAUSAL))
    cost = [attention_op_s(rows, True, SHAPE, PEAK, RATE, fit) for rows in (ragged, equal)]
    assert cost[0] == cost[1]


@pytest.mark.parametrize("profile", ["a100_sxm", "b200_sxm", "h100_sxm", "l40s"])
def test_verifications_of_nearly_equal_queries_cost_nearly_the_same(profile: str) -> None:
    """A batch of one number of queries is priced as a whole, one of several from features: no step between them."""
    arrays = machine(catalog.system({"a100_sxm": "a100_sxm_80gb"}.get(profile, profile)), "calibrated")
    row = FORMAT_CODE["bf16"]
    for num_seq in (2, 8, 32):
        for kv_len in (200, 4000):
            batch = work(*[(1, 5, kv_len, CAUSAL)] * num_seq)
            nearly = work(*[(1, 5, kv_len, CAUSAL)] * (num_seq - 1), (1, 4, kv_len, CAUSAL))
            peak = arrays.peak_flop_per_s[row]
            one, other = (
                attention_op_s(rows, True, SHAPE, peak, arrays.rate, arrays.fit[ATTN_DECODE, row])[0]
                for rows in (batch, nearly)
            )
            assert other == pytest.approx(one, rel=0.05)


def test_a_shared_span_is_cut_where_its_tiles_leave_cores_idle() -> None:
    heads = 5  # of 108 cores; a head a group, which decodes of this library are not cut for
    shape = attention_shape(heads, heads, 128, 128, 0, 2.0)
    fit = core_fit(split_group=2, split_max=128, tile_q=64)
    blocks, rate = 16384 / 128, RATE.copy()
    rate[MEM_BYTE_PER_S] = 1e18  # the cores alone

    def seconds(row: tuple[int, int, int, int], fit: np.ndarray = fit) -> float:
        return attention_op_s(work(row), True, shape, PEAK, rate, fit)[0]

    apart = seconds((1, 64, 16384, FULL))
    span = seconds((1, 64, 16384, SPAN))
    merged = seconds((1, 64, 16384, SPAN), core_fit(tile_q=64)) - seconds((1, 64, 16384, FULL), core_fit(tile_q=64))
    assert apart > 10 * span  # five cores at work, or nearly all
    parts = 21  # of 5 tiles on 108 cores, in one wave
    one_s = (apart - 1e-6) / blocks  # of a block of keys
    assert span - merged == pytest.approx(1e-6 + math.ceil(blocks / parts) * one_s, rel=0.02)
    assert seconds((1, 64 * 400, 16384, SPAN)) > seconds((1, 64 * 400, 16384, FULL))  # full: not cut, merged still


@pytest.mark.parametrize("num_head", [4, 16, 128])
def test_a_narrow_latent_is_read_faster_and_multiplied_the_same(num_head):
    """Latent attention multiplies in the activations' format whatever its cache is: half the bytes cost no more, and
    what the cores take does not change."""
    one = machine(catalog.system("h100_sxm", 1), "calibrated")
    seconds = {}
    for kv_format in ("bf16", "fp8"):
        ops, work = op.empty(1, 1)
        ops["kind"], ops["fmt"], ops["kv_fmt"] = ATTN_DECODE, FORMAT_CODE["bf16"], FORMAT_CODE[kv_format]
        ops["num_head"], ops["num_kv_head"], ops["head_dim"], ops["v_head_dim"] = num_head, 1, 576, 512
        ops["work_stop"] = 1
        work["count"], work["query_len"], work["kv_len"], work["causal"] = 256, 1, 16384, CAUSAL
        seconds[kv_format] = float(cost(ops, work, one)["time_ps"][0]) * 1e-12
    byte = 256 * 16384 * 576
    assert byte / 3.35e12 < seconds["fp8"] <= seconds["bf16"]  # H100's datasheet bandwidth
    assert seconds["bf16"] > 2 * byte / 3.35e12
    if num_head == 4:  # four heads leave the cores idle
        assert seconds["fp8"] < 0.7 * seconds["bf16"]


def test_latent_decode_as_measured():
    """Of constants that plain heads gave, no row of these was fitted; a kernel that converts its cache first is not of
    this kind."""
    rows, reasons = validate_ops(folder("ops", "h100_sxm", "mla_decode_kernel.csv.gz"), "h100_sxm")
    found = {
        (row["format"], row["kernel"]): row for row in rows if row["size_class"] == "all" and row["system"] != "all"
    }
    for fmt in ("bf16", "fp8"):
        assert found[fmt, "default (latent, absorbed)"]["median"] < 0.2
    assert found["bf16", "flash_attention (latent, absorbed)"]["median"] < 0.2
    assert sum(reasons.values()) <= 1
