"""Counts of attention work against brute force and hand arithmetic."""

from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.attention_work import (
    CAUSAL,
    FULL,
    SPAN,
    attention_shape,
    floor_sum,
    keys_seen,
    kv_token_byte,
    num_block,
    num_pair,
    pair_flop,
    query_token_byte,
)

rows = st.tuples(
    st.integers(1, 400), st.integers(0, 400), st.sampled_from([SPAN, CAUSAL, FULL]), st.sampled_from([0, 1, 64, 200])
)


def keys_of(query: int, query_len: int, kv_len: int, causal: int, window: int) -> range:
    """The keys that one query sees, from the definition."""
    if causal != CAUSAL:
        return range(kv_len)
    stop = kv_len - query_len + query + 1
    return range(max(0, stop - window) if window else 0, stop)


@given(rows)
@settings(max_examples=150, deadline=None)
def test_pairs_and_keys_equal_their_definition(row: tuple[int, int, int, int]) -> None:
    query_len, prefix, causal, window = row
    kv_len = prefix + query_len
    seen = [keys_of(q, query_len, kv_len, causal, window) for q in range(query_len)]
    assert num_pair(query_len, kv_len, causal, window) == sum(map(len, seen))
    assert keys_seen(query_len, kv_len, causal, window) == len(set().union(*seen))


@given(rows, st.sampled_from([1, 2, 3, 8]), st.sampled_from([16, 64, 128]), st.sampled_from([16, 80, 128]))
@settings(max_examples=150, deadline=None)
def test_blocks_equal_their_definition(row: tuple[int, int, int, int], group: int, tile_q: int, tile_kv: int) -> None:
    query_len, prefix, causal, window = row
    kv_len = prefix + query_len
    total = 0
    for first in range(0, query_len * group, tile_q):
        last = min(first + tile_q, query_len * group) - 1
        begin = keys_of(first // group, query_len, kv_len, causal, window).start
        stop = keys_of(last // group, query_len, kv_len, causal, window).stop
        total += -(-stop // tile_kv) - begin // tile_kv
    assert num_block(query_len, kv_len, causal, window, group, tile_q, tile_kv) == total


@given(st.integers(0, 60), st.integers(1, 50), st.integers(0, 90), st.integers(0, 90))
@settings(max_examples=100, deadline=None)
def test_floor_sum_equals_the_sum(n: int, m: int, a: int, b: int) -> None:
    assert floor_sum(n, m, a, b) == sum((a * i + b) // m for i in range(n))


def test_a_prompt_in_chunks_does_the_work_of_the_whole_triangle() -> None:
    whole = num_pair(1000, 1000, CAUSAL, 0)
    assert whole == 1000 * 1001 // 2  # the triangle with its diagonal
    stops = [128, 500, 501, 1000]
    starts = [0, *stops[:-1]]
    assert sum(num_pair(b - a, b, CAUSAL, 0) for a, b in zip(starts, stops, strict=True)) == whole


def test_a_shared_span_read_once_saves_all_but_one_of_its_reads() -> None:
    shape = attention_shape(32, 8, 128, 128, 0, 2.0)
    prefix, own, batch = 1024, 100, 16
    apart = batch * keys_seen(1, prefix + own, CAUSAL, 0)
    together = keys_seen(batch, prefix, SPAN, 0) + batch * keys_seen(1, own, CAUSAL, 0)
    assert (apart - together) * kv_token_byte(shape) == (batch - 1) * prefix * 4096  # 8 heads x 256 values x 2 B
    pairs = num_pair(batch, prefix, SPAN, 0) + batch * num_pair(1, own, CAUSAL, 0)
    assert pairs == batch * num_pair(1, prefix + own, CAUSAL, 0)  # and no multiply


def test_bytes_and_flop_of_the_head_layouts() -> None:
    heads = {"mha": 32, "gqa": 8, "mqa": 1}
    got = {name: kv_token_byte(attention_shape(32, kv, 128, 128, 0, 2.0)) for name, kv in heads.items()}
    assert got == {"mha": 16384, "gqa": 4096, "mqa": 512}  # kv heads x (128 + 128) x 2 B
    latent = attention_shape(128, 1, 576, 512, 0, 2.0)
    assert kv_token_byte(latent) == 576 * 2  # DeepSeek's cached latent, values are part of it
    assert pair_flop(latent) == 2 * 128 * (576 + 512)
    assert query_token_byte(latent) == 128 * (576 + 512) * 2
    assert [kv_token_byte(attention_shape(32, 8, 128, 128, 0, bit / 8)) for bit in (8, 4, 2, 1)] == [
        2048,
        1024,
        512,
        256,
    ]
