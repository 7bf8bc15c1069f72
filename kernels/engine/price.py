"""What a step costs: tables over token counts, and attention priced from its work.

For one model, placement, machine and format, everything in a step but attention depends on how many tokens
are computed and how many are sampled: priced once, looked up after that. Attention is priced from features of
the rows in the step, which equals pricing the rows as an operator table.
"""

from typing import NamedTuple

import numba
import numpy as np

from kernels.attention import LONGEST, PADDED, PAIR, decode_s, prefill_add, prefill_byte, prefill_s
from kernels.attention_work import CAUSAL, WINDOW, Shape, kv_token_byte, pair_flop, query_token_byte
from kernels.engine.records import Floats, Ints
from kernels.gemm import gemm_s
from kernels.jit import njit, njit_inline
from kernels.machine import ATTENTION_W, NUM_FIT, PRODUCT_W, RATES
from kernels.power import operator_j
from kernels.units import operator_ps, to_nj

Cost = tuple[int, int, int, int, int]  # of attention: picoseconds, nanojoules, bound, kB of memory, MFLOP


class StepPrice(NamedTuple):
    """Prices of a replica's steps. Times are of one device; energies of all devices of a stage. `draft` has the
    prices of a draft model's passes, which come before what they propose is verified."""

    dense_ps: Ints  # [stage, token] all operators but attention and head
    dense_nj: Ints
    head_ps: Ints  # [sampled] on the last stage
    head_nj: Ints
    before_ps: Ints  # [stage, token] of `dense_ps`, what a layer does before its attention
    send_ps: Ints  # [stage, token] activations from a stage to the next
    send_nj: Ints
    attn_layer: Ints  # [stage, class] layers; a class is a shape of attention
    scan_layer: Ints  # [stage, row] layers that have a scan row (see `kernels.engine.scan`)
    prefill_shape: Floats  # [class, 6] as the six floats of kernels.attention_work
    decode_shape: Floats  # [class, 6] (latent attention decodes in another shape)
    peak_flop_per_s: Floats  # [class]
    rate: Floats  # of the machine
    prefill_fit: Floats  # [class, NUM_FIT]
    decode_fit: Floats  # [class, NUM_FIT]
    scan: Floats  # [row, 2 (prompts, decodes), SCAN_SIZE]
    host_ps: Ints  # [HOST_FIELDS]
    dispatch_ps: Ints  # [stage] the host's launches of its layers: it computes beside them, and no shorter
    graph_token: int  # steps of decodes alone up to this many tokens are launched as one graph, without those
    num_device: int  # a stage
    num_group: int  # attention groups of a replica, which share its sequences evenly
    adapter: Floats  # what a layer computes for adapters: ADAPTER_FIELDS, the multiply's fit, then its projections
    adapter_link: Ints  # [2, token] picoseconds and nanojoules of what a layer exchanges for tokens with adapters
    apart: Ints  # [APART_FIELDS, token] of layers on two machines (`kernels.engine.apart`); no row: one machine
    draft: "StepPrice | None" = None


HOST_FIELDS: tuple[str, ...] = ("step", "seq", "token", "request", "prefill", "moved_block")
HOST_STEP, HOST_SEQ, HOST_TOKEN, HOST_REQUEST, HOST_PREFILL, HOST_BLOCK = range(len(HOST_FIELDS))


ADAPTER_FIELDS: tuple[str, ...] = ("num_projection", "value_byte", "peak_flop_per_s")
PROJECTION_FIELDS: tuple[str, ...] = ("count", "wide_in", "wide_out", "split")
"""Equal projections of a layer on a device, their widths there, devices that divide the rank of the first factor."""
NUM_PROJECTION, VALUE_BYTE, ADAPTER_PEAK = range(len(ADAPTER_FIELDS))


def blank(num_stage: int = 1, num_class: int = 1, max_token: int = 1, max_sampled: int = 1) -> StepPrice:
    """Prices of zero, to be filled."""
    ints = np.int64
    return StepPrice(
        np.zeros((num_stage, max_token + 1), ints), np.zeros((num_stage, max_token + 1), ints),
        np.zeros(max_sampled + 1, ints), np.zeros(max_sampled + 1, ints), np.zeros((num_stage, max_token + 1), ints),
        np.zeros((num_stage, max_token + 1), ints), np.zeros((num_stage, max_token + 1), ints),
        np.zeros((num_stage, num_class), ints), np.zeros((num_stage, 0), ints), np.zeros((num_class, 6)),
        np.zeros((num_class, 6)),
        np.ones(num_class), np.ones(len(RATES)),
        np.zeros((num_class, NUM_FIT)), np.zeros((num_class, NUM_FIT)), np.zeros((0, 2, 0)),
        np.zeros(len(HOST_FIELDS), ints), np.zeros(num_stage, ints), 0, 1, 1,
        np.zeros(len(ADAPTER_FIELDS)), np.zeros((2, max_token + 1), ints), np.zeros((0, max_token + 1), ints),
    )  # fmt: skip


class PackedPrice(NamedTuple):
    """A `StepPrice` in two arrays, as the compiled loop takes it (see `pack`)."""

    table: Ints  # PRICE_FIELDS, the tables that its last fields point to, and the same of the draft model
    real: Floats  # rate | of each class: prefill shape and fit, decode shape and fit, peak | scan rows | adapters
    # | the same of a draft model


PRICE_FIELDS: tuple[str, ...] = (
    "num_stage", "num_class", "num_device", "num_group", "graph_token", *HOST_FIELDS,
    "dense_ps", "dense_nj", "send_ps", "send_nj", "head_ps", "head_nj", "attn_layer",
    "dispatch_ps", "before_ps", "adapter_link", "stride", "num_scan", "adapter_real", "draft_table", "draft_real",
    "apart",
)  # fmt: skip
(
    NUM_STAGE, NUM_CLASS, NUM_DEVICE, NUM_GROUP, GRAPH_TOKEN, STEP_PS, SEQ_PS, TOKEN_PS, REQUEST_PS, PREFILL_PS,
    BLOCK_PS,
    DENSE_PS, DENSE_NJ, SEND_PS, SEND_NJ, HEAD_PS, HEAD_NJ, ATTN_LAYER,
    DISPATCH_PS, BEFORE_PS, ADAPTER_LINK, STRIDE, NUM_SCAN, ADAPTER_REAL, DRAFT_TABLE, DRAFT_REAL,
    APART,
) = range(len(PRICE_FIELDS))  # fmt: skip
NUM_RATE = len(RATES)
NUM_SHAPE = 6
IN_PREFILL, IN_DECODE, IN_PEAK = 0, NUM_SHAPE + NUM_FIT, 2 * (NUM_SHAPE + NUM_FIT)  # each a shape and then a fit
CLASS_SIZE = IN_PEAK + 1


def pack(price: StepPrice) -> PackedPrice:
    """The same prices in two arrays."""
    parts = [
        price.dense_ps,
        price.dense_nj,
        price.send_ps,
        price.send_nj,
        price.head_ps,
        price.head_nj,
        np.concatenate([price.attn_layer, price.scan_layer], axis=1),
        price.dispatch_ps,
        price.before_ps,
        price.adapter_link,
        price.apart,
    ]
    start = len(PRICE_FIELDS) + np.cumsum([0, *(part.size for part in parts)])
    num_stage, num_class = price.attn_layer.shape
    field = [
        num_stage,
        num_class,
        price.num_device,
        price.num_group,
        price.graph_token,
        *price.host_ps,
        *start[:-2],
        price.dense_ps.shape[1],
        len(price.scan),
        0,
        0,
        0,
        start[-2] if price.apart.size else 0,
    ]
    table = np.concatenate([np.array(field, np.int64), *(part.ravel() for part in parts)])
    columns = (price.prefill_shape, price.prefill_fit, price.decode_shape, price.decode_fit)
    classes = np.concatenate([*columns, price.peak_flop_per_s[:, None]], axis=1)
    real = np.concatenate([price.rate, classes.ravel(), price.scan.ravel(), price.adapter])
    table[ADAPTER_REAL] = len(real) - len(price.adapter)
    if price.draft is not None:
        draft = pack(price.draft)
        table[DRAFT_TABLE], table[DRAFT_REAL] = len(table), len(real)
        table, real = np.concatenate([table, draft.table]), np.concatenate([real, draft.real])
    return PackedPrice(np.ascontiguousarray(table, np.int64), real)


PRICE_TYPE = numba.typeof(pack(blank()))


@njit_inline
def draft_of(p: PackedPrice) -> PackedPrice:
    """Prices of the draft model; only where `p.table[DRAFT_TABLE]` is above 0."""
    return PackedPrice(p.table[p.table[DRAFT_TABLE] :], p.real[p.table[DRAFT_REAL] :])


@njit
def shape_at(real: Floats, at: int) -> Shape:
    """The six floats of a shape of attention that begin at `at`."""
    return (real[at], real[at + 1], real[at + 2], real[at + 3], real[at + 4], real[at + 5])


@njit_inline
def layers_of(table: Ints, stage: int, c: int) -> int:
    """Layers of class c on a stage; scan rows follow the classes."""
    return table[table[ATTN_LAYER] + stage * (table[NUM_CLASS] + table[NUM_SCAN]) + c]


@njit
def window_of(p: PackedPrice, c: int) -> int:
    """Keys that a query of class c sees; 0: all."""
    return int(p.real[NUM_RATE + c * CLASS_SIZE + IN_DECODE + WINDOW])


@njit
def dispatch_ps(p: PackedPrice, stage: int, token: int, num_prefill: int) -> int:
    """The least that a stage takes for a step of `token` tokens: its launches, but for a step that is one graph."""
    if num_prefill == 0 and token <= p.table[GRAPH_TOKEN]:
        return 0
    return int(p.table[p.table[DISPATCH_PS] + stage])


@njit
def decode_cost(p: PackedPrice, c: int, num_seq: int, kv_sum: int, kv_max: int) -> Cost:
    """`verify_cost` of a query a sequence."""
    return verify_cost(p, c, num_seq, 1, kv_sum, kv_max)


@njit
def verify_cost(p: PackedPrice, c: int, num_seq: int, query_len: int, kv_sum: int, kv_max: int) -> Cost:
    """Picoseconds, nanojoules, bound, kB and MFLOP of one layer's attention of decodes of `query_len` queries each (all
    devices of a stage but for the time); of several attention groups, one has an even share of the sequences, rounded
    up. `kv_sum` counts the keys that a sequence's queries see (`kernels.attention_work.keys_seen`)."""
    real = p.real
    group = p.table[NUM_GROUP]
    num_seq, kv_sum = -(-num_seq // group), -(-kv_sum // group)
    at = NUM_RATE + c * CLASS_SIZE
    fit = real[at + IN_DECODE + NUM_SHAPE : at + IN_PEAK]
    shape = shape_at(real, at + IN_DECODE)
    seconds, ideal_s, bound = decode_s(num_seq, query_len, kv_sum, kv_max, shape, real[at + IN_PEAK], real, fit)
    byte = kv_sum * kv_token_byte(shape) + num_seq * query_len * query_token_byte(shape)
    pair = query_len * kv_sum - num_seq * (query_len * (query_len - 1) // 2)
    flop = max(pair, num_seq) * pair_flop(shape)
    joule = operator_j(seconds, ideal_s, bound, flop / real[at + IN_PEAK], byte, real[ATTENTION_W], real)
    energy_nj = p.table[NUM_DEVICE] * to_nj(joule)
    kb, mflop = whole(byte * 1e-3), whole(flop * 1e-6)
    return operator_ps(seconds), energy_nj, bound, p.table[NUM_DEVICE] * kb, p.table[NUM_DEVICE] * mflop


@njit
def layer_of(p: PackedPrice, stage: int) -> int:
    """Layers of a stage that attend."""
    num_layer = 0
    for c in range(p.table[NUM_CLASS]):
        num_layer += layers_of(p.table, stage, c)
    return num_layer


@njit
def adapter_cost(p: PackedPrice, num_token: int, token_rank: int, rank_sum: int) -> Cost:
    """Picoseconds, nanojoules, the longest part's bound, kB and MFLOP (all devices of a stage but for the time) of one
    layer's products for adapters: `num_token` tokens of `token_rank` ranks in all, and distinct adapters of `rank_sum`
    in all, whose weights are read once. Each projection is a product down to the rank and one up from it, added to the
    base model's."""
    real, at = p.real, p.table[ADAPTER_REAL]
    byte, peak = real[at + VALUE_BYTE], real[at + ADAPTER_PEAK]
    fit = real[at + len(ADAPTER_FIELDS) : at + len(ADAPTER_FIELDS) + NUM_FIT]
    rank = -(-token_rank // num_token)
    low = num_token * rank * byte
    time_ps = energy_nj = bound = 0
    longest = kb = mflop = 0.0
    for k in range(int(real[at + NUM_PROJECTION])):
        row = at + len(ADAPTER_FIELDS) + NUM_FIT + k * len(PROJECTION_FIELDS)
        count, wide_in, wide_out, split = int(real[row]), int(real[row + 1]), int(real[row + 2]), int(real[row + 3])
        act_in, act_out = num_token * wide_in * byte, num_token * wide_out * byte
        held = rank_sum * wide_in * byte / split
        part_rank = -(-rank // split)
        low_out = num_token * part_rank * byte
        down = gemm_s(num_token, part_rank, wide_in, 1, held, act_in, low_out, peak, real, fit)
        up = gemm_s(num_token, wide_out, rank, 1, rank_sum * wide_out * byte, low + act_out, act_out, peak, real, fit)
        down_byte, up_byte = held + act_in + low_out, rank_sum * wide_out * byte + low + 2.0 * act_out
        down_flop, up_flop = 2.0 * token_rank * wide_in / split, 2.0 * token_rank * wide_out
        for part, moved, flop in ((down, down_byte, down_flop), (up, up_byte, up_flop)):
            time_ps += count * operator_ps(part[0])
            joule = operator_j(part[0], part[1], part[2], flop / peak, moved, real[PRODUCT_W], real)
            energy_nj += count * to_nj(joule)
            if part[0] > longest:
                longest, bound = part[0], part[2]
        kb += count * (held + rank_sum * byte * wide_out + act_in + low_out + low + 2.0 * act_out) * 1e-3
        mflop += count * 2.0 * token_rank * (wide_in / split + wide_out) * 1e-6
    device, link = p.table[NUM_DEVICE], p.table[ADAPTER_LINK] + num_token
    time_ps += p.table[link]
    return (
        time_ps,
        device * energy_nj + p.table[link + p.table[STRIDE]],
        bound,
        device * whole(kb),
        device * whole(mflop),
    )


@njit
def whole(amount: float) -> int:
    """To the nearest (kilobytes and megaflops: sums over a long run in bytes would not fit 64 bits)."""
    return int(amount + 0.5)


@njit
def add_prefill(p: PackedPrice, c: int, feature: Floats, query_len: int, kv_len: int) -> None:
    """Adds a chunk of `query_len` tokens that ends at `kv_len` to the features of class c."""
    add_prefills(p, c, feature, 1, query_len, kv_len)


@njit
def add_prefills(p: PackedPrice, c: int, feature: Floats, count: int, query_len: int, kv_len: int) -> None:
    """As `add_prefill`, of `count` equal chunks."""
    at = NUM_RATE + c * CLASS_SIZE
    fit = p.real[at + NUM_SHAPE : at + IN_DECODE]
    prefill_add(feature, count, query_len, kv_len, CAUSAL, shape_at(p.real, at), fit)


@njit
def prefill_cost(p: PackedPrice, c: int, feature: Floats) -> Cost:
    """Picoseconds, nanojoules, bound, kB and MFLOP of one layer's prefill attention, from the rows' features (of
    several attention groups, one has an even share of all but the longest row)."""
    return _feature_cost(p, NUM_RATE + c * CLASS_SIZE, p.real[NUM_RATE + c * CLASS_SIZE + IN_PEAK], feature)


@njit
def add_verify(p: PackedPrice, c: int, feature: Floats, query_len: int, kv_len: int) -> None:
    """Adds a decode of `query_len` queries that ends at `kv_len` to the features of class c."""
    at = NUM_RATE + c * CLASS_SIZE + IN_DECODE
    fit = p.real[at + NUM_SHAPE : at + IN_DECODE]
    prefill_add(feature, 1, query_len, kv_len, CAUSAL, shape_at(p.real, at), fit)


@njit
def ragged_cost(p: PackedPrice, c: int, feature: Floats) -> Cost:
    """As `verify_cost` where sequences have unlike numbers of queries, from the rows' features."""
    at = NUM_RATE + c * CLASS_SIZE
    return _feature_cost(p, at + IN_DECODE, p.real[at + IN_PEAK], feature)


@njit
def is_padded(p: PackedPrice, c: int) -> bool:
    """Whether class c's decodes are computed at the longest span, and the most queries, for every sequence."""
    return p.real[NUM_RATE + c * CLASS_SIZE + IN_DECODE + NUM_SHAPE + PADDED] > 0.0


@njit
def _feature_cost(p: PackedPrice, at: int, peak_flop_per_s: float, feature: Floats) -> Cost:
    """Prices features, which it divides among the attention groups where they are: they are priced once."""
    real = p.real
    if p.table[NUM_GROUP] > 1:
        for k in range(len(feature)):
            if k != LONGEST:
                feature[k] /= p.table[NUM_GROUP]
    fit = real[at + NUM_SHAPE : at + NUM_SHAPE + NUM_FIT]
    shape = shape_at(real, at)
    seconds, ideal_s, bound = prefill_s(feature, shape, peak_flop_per_s, real, fit)
    byte = prefill_byte(feature, shape, fit)
    flop = feature[PAIR] * pair_flop(shape)
    joule = operator_j(seconds, ideal_s, bound, flop / peak_flop_per_s, byte, real[ATTENTION_W], real)
    energy_nj = p.table[NUM_DEVICE] * to_nj(joule)
    kb, mflop = whole(byte * 1e-3), whole(flop * 1e-6)
    return operator_ps(seconds), energy_nj, bound, p.table[NUM_DEVICE] * kb, p.table[NUM_DEVICE] * mflop
