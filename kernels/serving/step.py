"""A step begins: its plan is priced and sent down the pipeline."""

from numba import types

from kernels.attention import NUM_FEATURE
from kernels.attention_work import longest_span
from kernels.jit import njit, njit_once
from kernels.optable import BOUNDS
from kernels.serving.abort import first_deadline
from kernels.serving.beside import hidden_ps
from kernels.serving.kvstore import allocate
from kernels.serving.layout import (
    AT_FLIGHT,
    AT_STAGE,
    ATTN_NJ,
    BESIDE_PS,
    BLOCK_TOKEN,
    BOOK_ATTN,
    BOOK_HEAD,
    BOOK_LOG,
    DEADLINE,
    DECODE,
    EPOCH,
    EVICTABLE_BLOCK,
    FLIGHT_HEAD,
    FREE_BLOCK,
    HIDDEN,
    IN_FEATURE,
    IN_FLIGHT,
    IN_KV,
    IN_PLAN,
    IN_RESIDUE,
    IN_RUNNING,
    KV,
    KV_GROW,
    KV_MAX_GROW,
    KV_MAX_STILL,
    KV_SUM,
    KV_TOKEN,
    LANE_END,
    LANE_NUM,
    LANE_NUM_PLAN,
    LOG_MAX,
    LOG_NUM,
    NUM_ACCOUNT_FIELD,
    NUM_BLOCK,
    NUM_DECODE_STEP,
    NUM_FLIGHT,
    NUM_GROW,
    NUM_KV_FIELD,
    NUM_LANE,
    NUM_LOG_COLUMN,
    NUM_PAD_TOKEN,
    NUM_PLAN,
    NUM_PREFILL_STEP,
    NUM_ROW,
    NUM_RUNNING,
    NUM_SAMPLED,
    NUM_STAGE_FIELD,
    NUM_STEP,
    NUM_TOKEN,
    NUM_WAITING,
    OUTPUT,
    PAD,
    PAGED,
    PEAK_BLOCK,
    PREFILL,
    PRODUCED,
    REPEAT,
    REPEAT_EPOCH,
    REPEATING,
    REPLICA,
    RESERVE,
    RESIDUE,
    ROLE,
    SEQ,
    STAGE_ATTN,
    STAGE_BUSY,
    STAGE_FREE,
    SWAP_BLOCK,
    TARGET,
    TOKEN,
    TOUCHED,
    Ints,
    Replica,
)
from kernels.serving.price import (
    ATTN_LAYER,
    BLOCK_PS,
    DENSE_NJ,
    DENSE_PS,
    HEAD_NJ,
    HEAD_PS,
    NUM_CLASS,
    NUM_STAGE,
    PREFILL_PS,
    PRICE_TYPE,
    SEND_NJ,
    SEND_PS,
    SEQ_PS,
    STEP_PS,
    STRIDE,
    TOKEN_PS,
    Cost,
    PackedPrice,
    add_prefill,
    decode_cost,
    dispatch_ps,
    prefill_cost,
    window_of,
)
from kernels.serving.sub_batch import interleaves, saved_ps
from kernels.serving.types import REPLICA_TYPE
from kernels.serving.verbs import lane_at
from kernels.serving.waiting import head

NUM_BOUND = len(BOUNDS)
_NUMBERS = njit_once(types.void(REPLICA_TYPE, PRICE_TYPE, *(types.int64,) * 11))  # once, whatever numbers are literal
ATTN_SIZE = 2 * NUM_BOUND * NUM_ACCOUNT_FIELD  # of a class: prefill and decode, bounds, fields


@njit
def begin(r: Replica, p: PackedPrice, lane: int, time_ps: int, repeat: int) -> None:
    """Prices the lane's plan and launches it; decides for how many steps the plan may be repeated."""
    seq, reg = r.seq, r.reg
    at = lane_at(reg, lane)
    num_row = reg[at + LANE_NUM_PLAN]
    num_class = p.table[NUM_CLASS]
    block_token = reg[BLOCK_TOKEN]
    residue = at + reg[IN_RESIDUE]
    for k in range(at + IN_KV, residue + block_token):
        reg[k] = 0
    for k in range(IN_FEATURE, IN_FEATURE + num_class * NUM_FEATURE):
        r.real[k] = 0.0
    token = pad = sampled = num_decode = num_prefill = num_idle = prefill_token = 0
    left = repeat
    for row in range(at + reg[IN_PLAN], at + reg[IN_PLAN] + 4 * num_row, 4):
        i = reg[row + SEQ]
        kv = seq[i, KV]
        if reg[row + ROLE] == PREFILL:
            num = reg[row + TOKEN]
            padded = num + reg[row + PAD]
            num_prefill += 1
            prefill_token += num
            token += padded
            pad += reg[row + PAD]
            if kv + num >= seq[i, TARGET]:
                sampled += 1
            for c in range(num_class):
                feature = r.real[IN_FEATURE + c * NUM_FEATURE : IN_FEATURE + (c + 1) * NUM_FEATURE]
                add_prefill(p, c, feature, padded, kv + padded)
            continue
        token += 1
        sampled += 1
        grows = reg[row + ROLE] == DECODE
        if grows:
            num_decode += 1
            kv += 1
            reg[residue + kv % block_token] += 1
            left = min(left, seq[i, OUTPUT] - seq[i, PRODUCED] - 2)
        else:
            num_idle += 1
            pad += 1
        for c in range(num_class):
            left = min(left, _add_decode(reg, at + IN_KV + c * NUM_KV_FIELD, kv, window_of(p, c), grows))
    step_nj = 0
    for c in range(num_class):
        if num_prefill > 0:
            feature = r.real[IN_FEATURE + c * NUM_FEATURE : IN_FEATURE + (c + 1) * NUM_FEATURE]
            prefill = prefill_cost(p, c, feature)
            step_nj += _account(r, p, c, 0, prefill)
        if num_decode + num_idle > 0:
            decode = _decode(r, p, at, c, num_decode + num_idle)
            step_nj += _account(r, p, c, 1, decode)
            if num_prefill > 0:
                _hide(r, p, c, hidden_ps(prefill[0], decode[0], decode[2], p.real))
    if num_prefill == 0:
        _split(r, p, at, num_decode + num_idle)
    clean = num_prefill == 0 and reg[TOUCHED] == 0 and num_row == reg[at + LANE_NUM] and reg[HIDDEN] <= reg[NUM_PLAN]
    reg[at + REPEAT] = max(0, left) if clean else 0
    reg[at + REPEAT_EPOCH] = reg[EPOCH]
    reg[at + DEADLINE] = first_deadline(r, lane)
    reg[at + REPEATING] = 0
    reg[at + NUM_GROW] = num_decode
    reg[at + RESIDUE] = 0
    moved = reg[SWAP_BLOCK]
    reg[SWAP_BLOCK] = 0
    _launch(
        r, p, lane, time_ps, token, num_row, sampled, moved, pad, num_prefill, num_idle, prefill_token, step_nj
    )  # fmt: skip


@njit
def begin_repeat(r: Replica, p: PackedPrice, lane: int, time_ps: int) -> bool:
    """Launches the lane's last plan once more; False where its blocks do not suffice and a plan must be made."""
    reg = r.reg
    at = lane_at(reg, lane)
    if reg[RESERVE] == PAGED:
        need = reg[at + reg[IN_RESIDUE] + reg[at + RESIDUE]]
        if need > reg[FREE_BLOCK] and head(r) >= 0:  # an eviction may let the head of the queue in
            return False
        if need > 0 and not allocate(r, need):
            return False
    num_row = reg[at + LANE_NUM]
    step_nj = 0
    for c in range(p.table[NUM_CLASS]):
        step_nj += _account(r, p, c, 1, _decode(r, p, at, c, num_row))
    _split(r, p, at, num_row)
    reg[at + REPEATING] = 1
    reg[at + RESIDUE] = (reg[at + RESIDUE] if reg[at + RESIDUE] > 0 else reg[BLOCK_TOKEN]) - 1
    num_idle = num_row - reg[at + NUM_GROW]
    _launch(r, p, lane, time_ps, num_row, num_row, num_row, 0, num_idle, 0, num_idle, 0, step_nj)
    return True


@njit
def _add_decode(reg: Ints, at: int, kv: int, window: int, grows: bool) -> int:
    """Adds a row of `kv` keys to the sums of its class at `at`; how many more steps they only count up."""
    if window > 0 and kv > window:
        reg[at + KV_SUM] += window
        reg[at + KV_MAX_STILL] = longest_span(kv, window)
        return 1 << 40
    reg[at + KV_SUM] += kv
    if not grows:
        reg[at + KV_MAX_STILL] = max(reg[at + KV_MAX_STILL], kv)
        return 1 << 40
    reg[at + KV_GROW] += 1
    reg[at + KV_MAX_GROW] = max(reg[at + KV_MAX_GROW], kv)
    return window - kv if window > 0 else 1 << 40


@njit
def _decode(r: Replica, p: PackedPrice, at: int, c: int, num_row: int) -> Cost:
    """Prices the decode attention of class c of the lane at `at`, one layer."""
    kv = at + IN_KV + c * NUM_KV_FIELD
    reg = r.reg
    longest = max(reg[kv + KV_MAX_GROW], reg[kv + KV_MAX_STILL])
    return decode_cost(p, c, num_row, reg[kv + KV_SUM], longest)


@njit
def _hide(r: Replica, p: PackedPrice, c: int, layer_ps: int) -> None:
    """Takes what a layer of class c does beside something else out of the stages' time."""
    table, num_class = p.table, p.table[NUM_CLASS]
    for s in range(table[NUM_STAGE]):
        saved_ps = table[table[ATTN_LAYER] + s * num_class + c] * layer_ps
        r.reg[AT_STAGE + s * NUM_STAGE_FIELD + STAGE_ATTN] -= saved_ps
        r.reg[BESIDE_PS] += saved_ps


@njit
def _split(r: Replica, p: PackedPrice, at: int, num_row: int) -> None:
    """Runs a step of decodes alone in two sub-batches where the machine's rule says so."""
    if not interleaves(p, num_row):
        return
    for s in range(p.table[NUM_STAGE]):
        saved = saved_ps(p, s, num_row, r.reg, at + IN_KV)
        r.reg[AT_STAGE + s * NUM_STAGE_FIELD + STAGE_ATTN] -= saved
        r.reg[BESIDE_PS] += saved


@njit
def _account(r: Replica, p: PackedPrice, c: int, phase: int, cost: Cost) -> int:
    """Adds a layer's cost, times its layers, to the stages and to the accounts; returns the energy of all."""
    table, num_class = p.table, p.table[NUM_CLASS]
    num_layer = 0
    for s in range(table[NUM_STAGE]):
        here = table[table[ATTN_LAYER] + s * num_class + c]
        num_layer += here
        r.reg[AT_STAGE + s * NUM_STAGE_FIELD + STAGE_ATTN] += here * cost[0]
    at = r.reg[BOOK_ATTN] + c * ATTN_SIZE + (phase * NUM_BOUND + cost[2]) * NUM_ACCOUNT_FIELD
    r.book[at] += num_layer * cost[0]
    r.book[at + 1] += num_layer * cost[1]
    r.book[at + 2] += num_layer * cost[3]
    r.book[at + 3] += num_layer * cost[4]
    r.reg[ATTN_NJ] += num_layer * cost[1]
    return num_layer * cost[1]


@_NUMBERS
def _launch(
    r: Replica, p: PackedPrice, lane: int, time_ps: int, token: int, num_row: int, sampled: int, moved: int,
    pad: int, num_prefill: int, num_idle: int, prefill_token: int, attn_nj: int,
) -> None:  # fmt: skip
    """Passes a step through the stages: each begins when the one before has sent and its own last step is over."""
    reg, table = r.reg, p.table
    at = lane_at(reg, lane)
    num_stage = table[NUM_STAGE]
    end = time_ps + table[STEP_PS] + table[SEQ_PS] * num_row + table[TOKEN_PS] * token + table[BLOCK_PS] * moved
    if num_prefill > 0:
        end += table[PREFILL_PS]
    start = time_ps
    for s in range(num_stage):
        stage = AT_STAGE + s * NUM_STAGE_FIELD
        if s > 0:
            send_ps = table[table[SEND_PS] + (s - 1) * table[STRIDE] + token]
            start = max(end + send_ps, reg[stage + STAGE_FREE])
            end = start
        device_ps = table[table[DENSE_PS] + s * table[STRIDE] + token] + reg[stage + STAGE_ATTN]
        if s == num_stage - 1:
            device_ps += table[table[HEAD_PS] + sampled]
        end += max(device_ps, dispatch_ps(p, s, token, num_prefill))
        reg[stage + STAGE_ATTN] = 0
        reg[stage + STAGE_FREE] = end
        reg[stage + STAGE_BUSY] += end - start
    reg[at + LANE_END] = end
    reg[at + IN_FLIGHT] = 1
    reg[reg[AT_FLIGHT] + (reg[FLIGHT_HEAD] + reg[NUM_FLIGHT]) % reg[NUM_LANE]] = lane
    reg[NUM_FLIGHT] += 1
    reg[NUM_STEP] += 1
    reg[NUM_ROW] += num_row
    reg[NUM_TOKEN] += token
    reg[NUM_PAD_TOKEN] += pad
    reg[NUM_SAMPLED] += sampled
    reg[NUM_PREFILL_STEP] += 1 if num_prefill > 0 else 0
    reg[NUM_DECODE_STEP] += 1 if num_row > num_prefill else 0
    used = reg[NUM_BLOCK] - reg[FREE_BLOCK] - reg[EVICTABLE_BLOCK]
    reg[PEAK_BLOCK] = max(reg[PEAK_BLOCK], used)
    r.book[token] += 1
    r.book[reg[BOOK_HEAD] + sampled] += 1
    if reg[LOG_MAX] == 0:
        return
    energy_nj = attn_nj + table[table[HEAD_NJ] + sampled]
    for s in range(num_stage):
        at_token = s * table[STRIDE] + token
        energy_nj += table[table[DENSE_NJ] + at_token] + table[table[SEND_NJ] + at_token]
    row = reg[BOOK_LOG] + reg[LOG_NUM] * NUM_LOG_COLUMN
    reg[LOG_NUM] += 1
    log = r.book[row : row + NUM_LOG_COLUMN]
    log[0], log[1] = r.seq[reg[at + reg[IN_RUNNING]], REPLICA], lane
    log[2], log[3] = time_ps, end
    log[4], log[5], log[6] = num_prefill, num_row - num_prefill - num_idle, num_idle
    log[7], log[8], log[9], log[10] = prefill_token, pad, sampled, moved
    log[11], log[12], log[13] = used, reg[EVICTABLE_BLOCK], reg[KV_TOKEN]
    log[14], log[15], log[16] = reg[NUM_RUNNING], reg[NUM_WAITING], energy_nj
