"""The state of a serving replica as flat arrays: column and register names, roles, statuses, sections.

Everything that belongs to a replica lies in a few arrays, because a compiled function takes an array as seven
words: six arrays pass quickly and compile quickly, forty do neither. Times are picoseconds, amounts of KV are
blocks of `BLOCK_TOKEN` tokens.

`reg` is registers, then stages, then lanes::

    REGISTERS | STAGE_FIELDS of each stage | ring of lanes in flight | lane 0 | lane 1 | ...
    a lane:  LANE_FIELDS | KV_FIELDS of each attention class | residue[block_token] | running[max_seq]
             | plan[max_seq, 4]

A lane is a microbatch of the pipeline with its own running sequences; without pipeline stages there is one.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
SmallInts = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]

SEQ_FIELDS: tuple[str, ...] = (
    "kv",  # resident: tokens whose KV is held
    "target",  # tokens to prefill at this admission: prompt, and after a recompute what was produced too
    "produced",  # committed output tokens
    "output",  # tokens until the end of the sequence
    "block",  # private blocks held (a buddy chunk's, where KV is reserved)
    "shared",  # leading prefix units held with others
    "status",
    "last_ps",  # last token
    "key",  # rank in the waiting queue, smallest first; ties by index
    "prompt",  # tokens
    "left", "right",  # heap links
    "unit_start", "unit_stop",  # into unit_id
    "lane",
    "slot",  # address of a buddy chunk
    "arrival_ps",  # when it became available
    "start_ps",  # first scheduled
    "first_ps",  # first token
    "end_ps",  # left the system
    "cached",  # tokens found in the prefix cache at first admission
    "preempted",  # times
    "replica",
    "reason",  # why it was refused
    "child", "sibling",  # requests that wait for this one's end
    "think_ps",
    "seen",  # the plan (by `num_plan`) that sees it first
)  # fmt: skip
(
    KV, TARGET, PRODUCED, OUTPUT, BLOCK, SHARED, STATUS, LAST, KEY, PROMPT, LEFT, RIGHT, UNIT_START, UNIT_STOP,
    LANE, SLOT, ARRIVAL, START, FIRST, END, CACHED, PREEMPTED, REPLICA, REASON, CHILD, SIBLING, THINK, SEEN,
) = range(len(SEQ_FIELDS))  # fmt: skip

STATUSES: tuple[str, ...] = ("future", "waiting", "running", "swapped", "done", "finished", "refused", "aborted")
FUTURE, WAITING, RUNNING, SWAPPED, DONE, FINISHED, REFUSED, ABORTED = range(len(STATUSES))
# DONE: all tokens produced, held until its batch ends (request-level batching)

REASONS: tuple[str, ...] = ("", "context", "kv", "step", "timeout")
NO_REASON, REASON_CONTEXT, REASON_KV, REASON_STEP, REASON_TIMEOUT = range(len(REASONS))

PREFILL, DECODE, IDLE = range(3)  # roles; IDLE is computed beside the others and commits nothing
SEQ, ROLE, TOKEN, PAD = range(4)  # columns of a plan

REGISTERS: tuple[str, ...] = (
    "now_ps",
    "plan_lane",  # being planned
    "last_lane",  # planned last
    "num_lane", "num_class", "max_seq", "max_step_token", "max_context_token",
    "num_block", "free_block", "evictable_block", "watermark_block", "block_token",
    "unit_token", "unit_block", "lru_head", "lru_tail",
    "host_free_block",
    "reserve",  # how much KV an admission takes, of `RESERVES`
    "swap",  # 1: a preempted sequence moves to host memory while there is room
    "hold",  # 1: a finished sequence keeps its place until its batch ends
    "whole_prompt",  # 1: a prompt is prefilled in one step
    "plan_ahead",  # plans are made so many steps before they run: an arrival meets the one after
    "sees",  # requests whose `seen` is not above it are visible to the plan being made
    "hidden",  # the largest `seen` handed out
    "timeout_ps",  # a request that has not ended so long after its arrival is aborted; 0: never
    "wait_root", "num_waiting", "num_running", "outstanding",
    "load_token",  # prompt and produced tokens of all outstanding requests
    "kv_token",  # resident in running sequences
    "final_token",  # what running sequences will hold in the end
    "asked_token",  # what their reservations asked for
    "epoch",  # changes when a plan may change: an arrival, an end, a preemption
    "touched",  # a plan admitted, preempted or moved something
    "swap_block",  # moved in the step being planned
    "flight_head", "num_flight",
    "future_root",  # heap of arrivals that ends on this replica have released
    "spawned",  # the heap has grown
    "integrated_ps",  # up to which the integrals run
    "num_step", "num_row", "num_token", "num_pad_token", "num_sampled", "num_prefill_step", "num_decode_step",
    "num_recompute", "num_swap", "num_evict", "num_hit_token", "num_moved_block", "num_plan",
    "num_finished", "num_refused", "num_aborted", "num_output_token",
    "peak_block",  # most blocks held by sequences
    "beside_ps",  # time that operators ran beside others (`kernels.serving.beside`), all stages
    "attn_nj",
    "at_flight", "at_lane", "lane_size", "in_residue", "in_running", "in_plan",  # where sections begin
    "book_head", "book_gap", "book_attn", "book_log", "log_num", "log_max",
)  # fmt: skip
(
    NOW, PLAN_LANE, LAST_LANE, NUM_LANE, NUM_CLASS, MAX_SEQ, MAX_STEP_TOKEN, MAX_CONTEXT,
    NUM_BLOCK, FREE_BLOCK, EVICTABLE_BLOCK, WATERMARK_BLOCK, BLOCK_TOKEN,
    UNIT_TOKEN, UNIT_BLOCK, LRU_HEAD, LRU_TAIL, HOST_FREE_BLOCK, RESERVE, SWAP, HOLD, WHOLE_PROMPT,
    PLAN_AHEAD, SEES, HIDDEN, TIMEOUT,
    WAIT_ROOT, NUM_WAITING, NUM_RUNNING, OUTSTANDING, LOAD_TOKEN, KV_TOKEN, FINAL_TOKEN, ASKED_TOKEN,
    EPOCH, TOUCHED, SWAP_BLOCK, FLIGHT_HEAD, NUM_FLIGHT, FUTURE_ROOT, SPAWNED, INTEGRATED,
    NUM_STEP, NUM_ROW, NUM_TOKEN, NUM_PAD_TOKEN, NUM_SAMPLED, NUM_PREFILL_STEP, NUM_DECODE_STEP,
    NUM_RECOMPUTE, NUM_SWAP, NUM_EVICT, NUM_HIT_TOKEN, NUM_MOVED_BLOCK, NUM_PLAN,
    NUM_FINISHED, NUM_REFUSED, NUM_ABORTED, NUM_OUTPUT_TOKEN, PEAK_BLOCK, BESIDE_PS, ATTN_NJ,
    AT_FLIGHT, AT_LANE, LANE_SIZE, IN_RESIDUE, IN_RUNNING, IN_PLAN,
    BOOK_HEAD, BOOK_GAP, BOOK_ATTN, BOOK_LOG, LOG_NUM, LOG_MAX,
) = range(len(REGISTERS))  # fmt: skip
AT_STAGE = len(REGISTERS)

RESERVES: tuple[str, ...] = ("paged", "max", "pow2", "oracle")
PAGED, RESERVE_MAX, RESERVE_POW2, RESERVE_ORACLE = range(len(RESERVES))

STAGE_FIELDS: tuple[str, ...] = ("free_ps", "busy_ps", "attn_ps")
# when it can begin its next step; time in steps, host included; attention of the step being priced
STAGE_FREE, STAGE_BUSY, STAGE_ATTN = range(len(STAGE_FIELDS))
NUM_STAGE_FIELD = len(STAGE_FIELDS)

LANE_FIELDS: tuple[str, ...] = (
    "num",  # sequences running
    "num_plan",  # rows planned
    "in_flight",
    "asleep",  # its last plan was empty, and nothing has changed since
    "end_ps",  # of the step in flight
    "last_end_ps",  # of the step before
    "repeat",  # steps for which the plan is known to stay the same
    "repeat_epoch",
    "repeating",  # the step in flight repeats the last plan
    "deferred",  # committed steps not yet written to the sequences
    "num_grow",  # rows that gain a token a step
    "residue",  # index of the rows that need a block next
    "deadline_ps",  # from then on its plan must be made anew: a request is to be aborted
)
(
    LANE_NUM, LANE_NUM_PLAN, IN_FLIGHT, ASLEEP, LANE_END, LAST_END, REPEAT, REPEAT_EPOCH, REPEATING, DEFERRED,
    NUM_GROW, RESIDUE, DEADLINE,
) = range(len(LANE_FIELDS))  # fmt: skip
IN_KV = len(LANE_FIELDS)

KV_FIELDS: tuple[str, ...] = ("sum", "grow", "max_grow", "max_still")  # a lane's next decode, by attention class
KV_SUM, KV_GROW, KV_MAX_GROW, KV_MAX_STILL = range(len(KV_FIELDS))
NUM_KV_FIELD = len(KV_FIELDS)

UNIT_REF, UNIT_PREVIOUS, UNIT_NEXT = range(3)  # of a prefix unit in `store`; ref -1: not resident
NUM_UNIT_FIELD = 3

LOG_COLUMNS: tuple[str, ...] = (
    "replica", "lane", "start_ps", "end_ps", "num_prefill", "num_decode", "num_idle", "prefill_token", "pad_token",
    "num_sampled", "moved_block", "used_block", "cached_block", "kv_token", "num_running", "num_waiting", "energy_nj",
)  # fmt: skip
NUM_LOG_COLUMN = len(LOG_COLUMNS)

ACCOUNT_FIELDS: tuple[str, ...] = ("ps", "nj", "kb", "mflop")  # of attention, by class, phase and bound
NUM_ACCOUNT_FIELD = len(ACCOUNT_FIELDS)

INTEGRALS: tuple[str, ...] = ("token", "final", "asked", "allocated")  # KV tokens times picoseconds
MAX_OPTION = 12
IN_OPTION = len(INTEGRALS)
IN_FEATURE = IN_OPTION + MAX_OPTION


class Replica(NamedTuple):
    """One replica, as a policy and the engine see it. `seq` and `unit_id` are shared by all replicas."""

    seq: Ints  # [request, SEQ_FIELDS]
    reg: Ints  # registers, stages, lanes
    store: SmallInts  # [unit * 3] prefix units, or [node] the buddy tree of a contiguous store
    unit_id: SmallInts
    real: Floats  # integrals of KV use, the policy's options, attention features of the step
    book: Ints  # steps by tokens | steps by sampled tokens | gaps | attention ps, nj, kB, MFLOP | log of steps


class Fleet(NamedTuple):
    """What a router sees: every replica's registers and store, and its own options and memory."""

    seq: Ints  # [request, SEQ_FIELDS]
    reg: Ints  # [replica, ...]
    store: SmallInts  # [replica, ...]
    unit_id: SmallInts
    option: Floats  # in the order of the file's OPTIONS
    memory: Ints  # [0]: the seed; the rest is the router's own, zero at first


class Stack(NamedTuple):
    """A whole fleet: the arrays of every replica behind one leading axis."""

    seq: Ints
    reg: Ints
    store: SmallInts
    unit_id: SmallInts
    real: Floats
    book: Ints
    order: SmallInts  # requests without a parent, by arrival
    control: Ints  # [CONTROL_FIELDS]


CONTROL_FIELDS: tuple[str, ...] = ("cursor", "linked", "stuck_replica", "request_ps")
CURSOR, LINKED, STUCK_REPLICA, REQUEST_PS = range(len(CONTROL_FIELDS))


class Sizes(NamedTuple):
    """What decides the lengths of the arrays."""

    num_stage: int = 1
    num_class: int = 1
    max_seq: int = 1
    max_token: int = 1
    block_token: int = 1
    num_store: int = 1
    num_feature: int = 1
    num_bound: int = 1
    num_gap: int = 1
    num_log: int = 0


def stack(num_request: int, num_replica: int, size: Sizes, unit_id: SmallInts, order: SmallInts) -> Stack:
    """Zeroed arrays of a fleet, with the registers that say where sections begin."""
    in_residue = IN_KV + NUM_KV_FIELD * size.num_class
    in_running = in_residue + size.block_token
    in_plan = in_running + size.max_seq
    lane_size = in_plan + 4 * size.max_seq
    at_flight = AT_STAGE + NUM_STAGE_FIELD * size.num_stage
    at_lane = at_flight + size.num_stage
    book_head = size.max_token + 1
    book_gap = book_head + size.max_seq + 1
    book_attn = book_gap + size.num_gap
    book_log = book_attn + size.num_class * 2 * size.num_bound * len(ACCOUNT_FIELDS)
    shapes = {
        "reg": at_lane + size.num_stage * lane_size,
        "store": max(size.num_store, 1),
        "real": IN_FEATURE + size.num_class * size.num_feature,
        "book": book_log + size.num_log * NUM_LOG_COLUMN,
    }
    dtypes = {"reg": np.int64, "store": np.int32, "real": np.float64, "book": np.int64}
    made = {name: np.zeros((num_replica, shapes[name]), dtypes[name]) for name in shapes}
    reg = made["reg"]
    for register, value in (
        (NUM_LANE, size.num_stage), (NUM_CLASS, size.num_class), (MAX_SEQ, size.max_seq),
        (MAX_STEP_TOKEN, size.max_token), (BLOCK_TOKEN, size.block_token), (LAST_LANE, size.num_stage - 1),
        (AT_FLIGHT, at_flight), (AT_LANE, at_lane), (LANE_SIZE, lane_size), (IN_RESIDUE, in_residue),
        (IN_RUNNING, in_running), (IN_PLAN, in_plan), (BOOK_HEAD, book_head), (BOOK_GAP, book_gap),
        (BOOK_ATTN, book_attn), (BOOK_LOG, book_log), (LOG_MAX, size.num_log),
        (LRU_HEAD, -1), (LRU_TAIL, -1), (WAIT_ROOT, -1), (FUTURE_ROOT, -1), (UNIT_BLOCK, 1), (UNIT_TOKEN, 1),
    ):  # fmt: skip
        reg[:, register] = value
    return Stack(
        np.zeros((num_request, len(SEQ_FIELDS)), np.int64), reg, made["store"], unit_id, made["real"], made["book"],
        order, np.zeros(len(CONTROL_FIELDS), np.int64),
    )  # fmt: skip
