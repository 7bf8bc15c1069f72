"""The arrays of a pool: where their sections begin, and the tables by which compiled code knows them."""

from typing import Any, NamedTuple, TypeVar

import numpy as np

from kernels.engine.records import (
    CONTROL_FIELDS,
    ENGINE,
    FUTURE_ROOT,
    GROUP_FIELDS,
    HANDED_ROOT,
    IN_FEATURE,
    IN_TOKEN,
    LANE,
    MAX_MEMORY,
    NUM_ACCOUNT_FIELD,
    NUM_KV_FIELD,
    NUM_LOG_COLUMN,
    RANK_FIELDS,
    ROW,
    SEQUENCE,
    UNIT,
    Ints,
    SmallInts,
    World,
    zeros,
)

PLACE = 3  # numbers of a table a field: address, shape
Tabled = TypeVar("Tabled", bound=tuple[Any, ...])


def addressed(made: type[Tabled], *arrays: Any) -> Tabled:
    """A tuple of arrays with the table by which compiled code knows it."""
    table = np.zeros(PLACE * len(arrays), np.int64)
    for k, array in enumerate(arrays):
        table[PLACE * k] = array.ctypes.data
        table[PLACE * k + 1 : PLACE * k + 1 + array.ndim] = array.shape
    values: Any = (*arrays, table, table.ctypes.data)
    return made(*values)


def replaced(w: World, **arrays: Any) -> World:
    """The same engines with other arrays: those given by name."""
    w = w._replace(**arrays)
    handle = _handles((w.seq,), w.engine, w.lane, w.work, (w.unit,), (w.unit_id,), w.store, w.real, (w.book,))
    return addressed(World, *w[: World._fields.index("handle")], handle)


def _handles(*arrays: Any) -> Ints:
    """The tables of engines: of each array, the row of the engine, or the whole where all share it (a pair)."""
    num_engine = len(arrays[1])
    handle = np.zeros((num_engine, PLACE * len(arrays)), np.int64)
    for k, array in enumerate(arrays):
        if isinstance(array, tuple):
            handle[:, PLACE * k] = array[0].ctypes.data
            handle[:, PLACE * k + 1 : PLACE * k + 1 + array[0].ndim] = array[0].shape
        else:
            handle[:, PLACE * k] = array.ctypes.data + np.arange(num_engine) * array.strides[0]
            handle[:, PLACE * k + 1 : PLACE * k + array.ndim] = array.shape[1:]
    return handle


class Sizes(NamedTuple):
    """What decides the lengths of the arrays."""

    num_stage: int = 1
    num_class: int = 1
    num_scan: int = 0
    num_group: int = 1
    num_rank: int = 0
    max_seq: int = 1
    max_token: int = 1
    max_sampled: int = 1
    block_token: int = 1
    num_node: int = 1
    num_unit: int = 0  # resident at once at most, in all engines
    num_bucket: int = 1  # of their hash table, a power of two
    num_feature: int = 1
    num_bound: int = 1
    num_gap: int = 1
    num_log: int = 0
    num_draft_class: int = 0  # 0: no draft model
    num_tier: int = 0
    num_tier_int: int = 0  # numbers in `book` that their stores and links take


def world(num_seq: int, num_engine: int, size: Sizes, unit_id: SmallInts, order: SmallInts) -> World:
    """Zeroed arrays of a pool, with the fields that say where sections begin."""
    in_need = NUM_KV_FIELD * size.num_class
    in_give = in_need + size.block_token
    in_running = in_give + size.block_token
    in_plan = in_running + size.max_seq
    in_memory = in_plan + ROW * size.max_seq
    lane_size = in_memory + MAX_MEMORY
    at_rank = size.num_stage + len(GROUP_FIELDS) * size.num_group
    at_tier = at_rank + len(RANK_FIELDS) * size.num_rank
    at_lane = at_tier + size.num_tier
    book_head = IN_TOKEN + size.max_token + 1
    book_gap = book_head + size.max_sampled + 1
    book_attn = book_gap + size.num_gap
    attn_size = 2 * size.num_bound * NUM_ACCOUNT_FIELD
    book_draft = book_attn + (size.num_class + size.num_scan) * attn_size
    drafts = min(size.num_draft_class, 1)
    book_draft_head = book_draft + drafts * (size.max_token + 1)
    book_draft_attn = book_draft_head + drafts * (size.max_token + 1)
    book_log = book_draft_attn + size.num_draft_class * attn_size
    engine = zeros(num_engine, ENGINE)
    for name, value in (
        ("num_lane", size.num_stage), ("num_class", size.num_class), ("num_group", size.num_group),
        ("plain", 1), ("run_weight", 1), ("handed", -1),
        ("max_seq", size.max_seq), ("max_step_token", size.max_token), ("block_token", size.block_token),
        ("last_lane", size.num_stage - 1), ("at_group", size.num_stage), ("at_lane", at_lane),
        ("at_rank", at_rank), ("num_rank", size.num_rank), ("at_tier", at_tier), ("num_tier", size.num_tier),
        ("lane_size", lane_size), ("in_need", in_need), ("in_give", in_give), ("in_running", in_running),
        ("in_plan", in_plan), ("in_memory", in_memory),
        ("book_draft", book_draft), ("book_draft_head", book_draft_head), ("book_draft_attn", book_draft_attn),
        ("book_head", book_head), ("book_gap", book_gap), ("book_attn", book_attn), ("book_log", book_log),
        ("log_max", size.num_log), ("wait_root", -1), ("spawned", -1), ("unit_block", 1), ("unit_token", 1),
        ("index", np.arange(num_engine)),
    ):  # fmt: skip
        engine[name] = value
    heap = np.tile(np.arange(num_engine), (2, 1))
    control = np.zeros(len(CONTROL_FIELDS), np.int64)
    control[FUTURE_ROOT] = control[HANDED_ROOT] = -1
    seq, lane = zeros(num_seq, SEQUENCE), zeros((num_engine, size.num_stage), LANE)
    work = np.zeros((num_engine, at_lane + size.num_stage * lane_size), np.int64)
    unit = zeros(max(1 + size.num_unit, size.num_bucket), UNIT)
    unit["unit"][0] = size.num_bucket
    store = np.zeros((num_engine, max(size.num_node, 1)), np.int32)
    real = np.zeros((num_engine, IN_FEATURE + (3 * size.num_class + size.num_draft_class) * size.num_feature))
    book = np.zeros(book_log + size.num_log * NUM_LOG_COLUMN + size.num_tier_int, np.int64)
    event = np.full(num_engine, np.iinfo(np.int64).max, np.int64)
    handle = _handles((seq,), engine, lane, work, (unit,), (unit_id,), store, real, (book,))
    return addressed(
        World, seq, engine, lane, work, unit, unit_id, store, real, book, order, heap, event, control, handle
    )
