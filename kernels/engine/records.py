"""The state of serving as record arrays: one dtype a kind of thing, every field with its meaning.

A *sequence* is one row a request and pool. An *engine* is one replica: its counters, its store of KV blocks and its
clock. A *lane* is a microbatch in flight with the pipeline stage of the same number; without pipeline stages there is
one. A *unit* is a named stretch of a prefix, or an adapter, that lies in some engine's store. Times are picoseconds,
amounts of KV are blocks of `block_token` tokens. What has no fixed length (running lists, plans, sums of a lane) lies
in one array of integers an engine::

    ring of lanes in flight | GROUP_FIELDS of each KV group | RANK_FIELDS of each rank | tiers | lane 0 | ...
    a lane:  KV_FIELDS of each attention class | need[block_token] | give[block_token] | running[max_seq]
             | plan[max_seq, ROW_FIELDS] | memory[MAX_MEMORY] of the progress model
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kernels.jit import PLAIN

Ints = npt.NDArray[np.int64]
SmallInts = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]
Records = npt.NDArray[np.void]

Field = tuple[str, str, str]  # name, type, meaning


def zeros(shape: int | tuple[int, ...], dtype: np.dtype[np.void]) -> Records:
    """Zeroed records; where kernels are plain Python, of the kind whose fields Python reads by name as they do."""
    made = np.zeros(shape, dtype)
    return made.view(np.recarray) if PLAIN else made


def record(fields: tuple[Field, ...]) -> np.dtype[np.void]:
    """The dtype of documented fields, aligned as compiled code wants it."""
    return np.dtype([(name, kind) for name, kind, _ in fields], align=True)


SEQUENCE_FIELDS: tuple[Field, ...] = (
    ("arrival_ps", "i8", "when it became available"),
    ("start_ps", "i8", "first scheduled"),
    ("first_ps", "i8", "first token"),
    ("last_ps", "i8", "last token"),
    ("end_ps", "i8", "left the system"),
    ("think_ps", "i8", "from its parent's end to its arrival"),
    ("encode_ps", "i8", "what its images take in the step that first schedules it"),
    ("encode_nj", "i8", "energy of that"),
    ("step_ps", "i8", "where it was handed over: length of the step that computed the last of it"),
    ("key", "i8", "rank in the waiting queue, smallest first; ties by index"),
    ("seen", "i8", "the plan (by `num_plan`) that sees it first"),
    ("planned", "i8", "the plan (by `num_plan`) that has a row of it"),
    ("unit_start", "i8", "its first prefix unit in `unit_id`"),
    ("num_unit", "i4", "prefix units that the load names"),
    ("prompt", "i4", "tokens"),
    ("output", "i4", "tokens until its end"),
    ("kv", "i4", "tokens computed and committed: their KV is held"),
    ("ahead", "i4", "tokens scheduled in steps that have not ended (of one that waits: those that are still to come)"),
    ("stale", "i4", "where preempted ones drain: steps in flight that hold a row of what it lost"),
    ("target", "i4", "tokens to prefill at this admission: the prompt, after a recompute what was produced too"),
    ("produced", "i4", "committed output tokens"),
    ("block", "i4", "private blocks held (a buddy chunk's, where KV is reserved)"),
    ("shared", "i4", "leading prefix units held with others"),
    ("run", "i4", "own full blocks that it left behind in the cache"),
    ("blank", "i4", "blocks without content behind these, in the same place of the order of eviction"),
    ("joined", "i4", "entry of the unit in whose branch the first of these lie; 0: none"),
    ("branch", "i4", "how many of them"),
    ("state", "i4", "states held that nobody can find (see `kernels.engine.snapshot`)"),
    ("low", "i4", "first place at which it may hold a state"),
    ("junction", "i4", "tokens whose keys were found beyond the last state that was; 0: none"),
    ("recent", "i4", "tokens of its last row"),
    ("span", "i4", "of its leading tokens, those that the step reads together with other rows"),
    ("run_from", "i4", "tokens before the first of `run`"),
    ("previous", "i4", "links of `run` in the order of eviction"),
    ("next", "i4", "see `previous`"),
    ("left", "i4", "heap links"),
    ("right", "i4", "see `left`"),
    ("child", "i4", "the first request that waits for its end"),
    ("sibling", "i4", "the next one with the same parent, or behind it at the gate"),
    ("lane", "i4", "whose running list it is in"),
    ("flight", "i4", "one above the lane of its last step, where lanes share a running list"),
    ("adapter", "i4", "one above the adapter that it asks for; 0: none"),
    ("entry", "i4", "of that adapter in `unit`, while it holds it"),
    ("slot", "i4", "address of a buddy chunk"),
    ("draft", "i4", "tokens that its next decode verifies beyond the next one"),
    ("draft_pass", "i4", "passes of the draft model, one after another, that propose them"),
    ("draft_width", "i4", "tokens of one such pass"),
    ("accept", "i4", "of those that its step in flight verifies, how many will be committed"),
    ("note", "i4", "the progress model's own"),
    ("verified", "i4", "steps that verified drafts of it"),
    ("drafted", "i4", "tokens verified in these steps beyond the next one"),
    ("accepted", "i4", "of these, committed"),
    ("cached", "i4", "tokens found in the prefix cache at first admission"),
    ("preempted", "i4", "times"),
    ("replica", "i4", "engine that serves it"),
    ("program", "i4", "live program that asked for it; -1: none"),
    ("part", "i4", "requests that its program had asked for before it: how far the program has come"),
    ("stopped", "i4", "1: who asked for it wants no more of it"),
    ("status", "i4", "of `STATUSES`"),
    ("reason", "i4", "why it was refused or aborted, of `REASONS`"),
)
SEQUENCE = record(SEQUENCE_FIELDS)

STATUSES: tuple[str, ...] = (
    "future", "waiting", "running", "swapped", "handed", "done", "leaving", "held", "finished", "refused", "aborted",
)  # fmt: skip
FUTURE, WAITING, RUNNING, SWAPPED, HANDED, DONE, LEAVING, HELD, FINISHED, REFUSED, ABORTED = range(len(STATUSES))
# DONE: all tokens produced, held until its batch ends (request-level batching). LEAVING: all tokens produced and
# handed to its client, but the next step is planned before the engine hears of it. HELD: ended here, its KV stays until
# another pool has it. HANDED: waits with KV that another pool has computed

REASONS: tuple[str, ...] = ("", "context", "kv", "step", "timeout", "stopped", "queue")
NO_REASON, REASON_CONTEXT, REASON_KV, REASON_STEP, REASON_TIMEOUT, REASON_STOPPED, REASON_QUEUE = range(len(REASONS))

ENGINE_FIELDS: tuple[Field, ...] = (
    ("now_ps", "i8", "its clock"),
    ("index", "i8", "of the engine in its world"),
    ("plan_lane", "i8", "being planned"),
    ("last_lane", "i8", "planned last"),
    ("num_lane", "i8", "microbatches in flight at most: pipeline stages"),
    ("num_class", "i8", "attention classes"),
    ("num_group", "i8", "groups of layers whose KV follows one rule"),
    ("plain", "i8", "1: one group that keeps every token, a block for `block_token` of them"),
    ("gives_back", "i8", "1: a sequence that goes on may need fewer blocks than before (windows, budgets)"),
    ("run_weight", "i8", "blocks for `block_token` tokens of the groups that keep all of them; 0: none does"),
    ("state_block", "i8", "blocks of the states of a sequence at one place; 0: no other sequence finds them"),
    ("state_export", "i8", "1: a step that ends a prompt leaves the state at its last whole block too"),
    ("max_seq", "i8", "sequences of a running list"),
    ("max_step_token", "i8", "tokens a step"),
    ("max_context_token", "i8", "prompt plus output of a sequence"),
    ("num_block", "i8", "KV blocks"),
    ("free_block", "i8", "blocks that hold nothing"),
    ("evictable_block", "i8", "blocks that hold what nobody uses"),
    ("watermark_block", "i8", "blocks that an admission leaves"),
    ("block_token", "i8", "tokens a block"),
    ("unit_token", "i8", "tokens a prefix unit"),
    ("unit_block", "i8", "blocks a prefix unit"),
    ("lru_head", "i8", "what is evicted next (see `kernels.engine.cache`)"),
    ("lru_tail", "i8", "what is evicted last"),
    ("host_free_block", "i8", "host memory for swapped KV"),
    ("checked", "i8", "1: every row and sequence that the policy names is checked, since it is a user's"),
    ("reserve", "i8", "how much KV an admission takes, of `RESERVES`"),
    ("swap", "i8", "1: a preempted sequence moves to host memory while there is room"),
    ("hold", "i8", "1: a finished sequence keeps its place until its batch ends"),
    ("whole_prompt", "i8", "1: a prompt is prefilled in one step"),
    ("plan_ahead", "i8", "plans are made so many steps before they run: an arrival meets the one after"),
    ("own_cache", "i8", "1: a sequence's own full blocks stay behind as cache, named by the load or not"),
    ("share_early", "i8", "1: a block can be found from its scheduling on, 0: from the end of its step"),
    ("end_late", "i8", "1: who ends keeps seat and blocks until the next step is planned"),
    ("ends_unseen", "i8", "1: with `end_late`, the step planned beside a last token computes a row for who ends"),
    ("empty_ends", "i8", "1: where lanes share a list, a launch ends the oldest batch in flight if it has no rows"),
    ("empty_fills", "i8", "1: where lanes share a list, batches without rows take all places in flight"),
    ("admit_whole", "i8", "1: an admission needs room for the whole prompt, whatever its first chunk"),
    ("pooled", "i8", "1: lanes share one running list and are planned as soon as one is free"),
    ("by_admission", "i8", "1: the running list is in order of admission, 0: of key"),
    ("victim_by_key", "i8", "1: who has the largest key is preempted, 0: the tail of the running list"),
    ("hands_over", "i8", "1: who ends keeps its KV until `kernels.engine.party.give_back`, and is a message"),
    ("tells", "i8", "1: every request that ends, is refused or given up is a message"),
    ("num_stop", "i8", "stopped requests that have not left"),
    ("goes_on", "i8", "1: who preempts itself does not end the plan"),
    ("drains", "i8", "1: who is preempted is in the waiting queue once its steps in flight have ended, 0: at once"),
    ("front_key", "i8", "smallest key that a preempted sequence has had, or 0, where they drain"),
    ("keep_duplicate", "i8", "1: who computes a block that is resident already keeps its own copy"),
    ("lone_prompt", "i8", "1: a prompt that is alone is not cut to the policy's longest chunk"),
    ("radix", "i8", "1: what becomes resident in one step is a branch (see `kernels.engine.branch`)"),
    ("release_order", "i8", "1: empty blocks queue for use behind older cached ones, 0: they are used first"),
    ("memo", "i8", "what its policy keeps from plan to plan (`kernels.engine.verbs.remember`)"),
    ("shut", "i8", "1: its policy admits nobody until a sequence leaves (`kernels.engine.verbs.shut`)"),
    ("kept_token", "i8", "keys that a query reads beside those of its step, in layers without a window; 0: all"),
    ("num_rank", "i8", "ranks that adapters have, in turn; 0: nobody asks for adapters"),
    ("link_ps", "i8", "when the link to the host has done the fetches asked for"),
    ("span_row", "i8", "rows that must hold a span for its keys to be read once for all of them; 0: none are"),
    ("span_token", "i8", "tokens that such a span has at least"),
    ("span_common", "i8", "1: only what all decodes of a step hold is such a span"),
    ("down", "i8", "1: it takes no requests (`kernels.engine.down`)"),
    ("up_ps", "i8", "when it takes requests again, where it is down and will"),
    ("num_tier", "i8", "tiers below its store, to which named units go that it evicts (`kernels.engine.tier`)"),
    ("at_tier", "i8", "where the section of `work` begins that says where their rows lie in `book`"),
    ("evict_by", "i8", "which unit is evicted next, of `ORDERS`"),
    ("kv_ready_ps", "i8", "when KV on its way to or from a tier has made it, for the step being planned"),
    ("kv_wait_ps", "i8", "time that steps began later for it"),
    ("num_below_token", "i8", "tokens found in a tier below"),
    ("lookahead", "i8", "tokens that a decode verifies beyond the next one, at most"),
    ("seed", "i8", "of the draws of the progress model, 31 bits"),
    ("sees", "i8", "requests whose `seen` is not above it are visible to the plan being made"),
    ("hidden", "i8", "the largest `seen` handed out"),
    ("timeout_ps", "i8", "a request that has not ended so long after its arrival is aborted; 0: never"),
    ("max_in_flight", "i8", "likewise, waiting and running; 0: any number"),
    ("max_queue", "i8", "requests that may wait: who comes to so many is refused; 0: any number"),
    ("wait_root", "i8", "root of the waiting queue"),
    ("num_waiting", "i8", "sequences in it"),
    ("num_running", "i8", "sequences in running lists"),
    ("num_leaving", "i8", "of these, sequences that are `leaving`"),
    ("outstanding", "i8", "requests delivered and not ended"),
    ("load_token", "i8", "prompt and produced tokens of all outstanding requests"),
    ("kv_token", "i8", "resident in running sequences"),
    ("final_token", "i8", "what running sequences will hold in the end"),
    ("asked_token", "i8", "what their reservations asked for"),
    ("epoch", "i8", "changes when a plan may change: an arrival, an end, a preemption"),
    ("touched", "i8", "a plan admitted, preempted or moved something"),
    ("swap_block", "i8", "moved in the step being planned"),
    ("flight_head", "i8", "of the ring of lanes in flight"),
    ("num_flight", "i8", "lanes in flight"),
    ("spawned", "i8", "root of the arrivals that its ends have released and nobody has fetched; -1: none"),
    ("handed", "i8", "root of the sequences that have ended here for another pool; -1: none"),
    ("integrated_ps", "i8", "up to which the integrals run"),
    ("num_step", "i8", "steps begun"),
    ("num_row", "i8", "their rows"),
    ("num_token", "i8", "their computed tokens"),
    ("num_pad_token", "i8", "of these, padding"),
    ("num_sampled", "i8", "tokens sampled"),
    ("num_prefill_step", "i8", "steps with a prompt"),
    ("num_decode_step", "i8", "steps with a decode"),
    ("num_recompute", "i8", "preemptions that lost their KV"),
    ("num_swap", "i8", "preemptions that moved it"),
    ("num_evict", "i8", "prefix units and own blocks evicted"),
    ("num_hit_token", "i8", "tokens found in the cache"),
    ("num_span_step", "i8", "steps that read a span once for several rows"),
    ("num_span_token", "i8", "keys that their rows did not read again"),
    ("num_fetch", "i8", "adapters fetched from the host"),
    ("num_adapter_step", "i8", "steps with an adapter"),
    ("num_moved_block", "i8", "blocks moved to or from the host"),
    ("num_plan", "i8", "plans asked for"),
    ("num_finished", "i8", "requests ended"),
    ("num_refused", "i8", "requests refused"),
    ("num_aborted", "i8", "requests given up"),
    ("num_output_token", "i8", "tokens committed"),
    ("peak_block", "i8", "most blocks held by sequences"),
    ("beside_ps", "i8", "time that operators ran beside others, all stages"),
    ("adapter_ps", "i8", "time of what is computed for adapters, all stages"),
    ("adapter_nj", "i8", "energy of that"),
    ("adapter_kb", "i8", "kilobytes of memory of that"),
    ("adapter_mflop", "i8", "MFLOP of that"),
    ("adapter_bound", "i8", "what bound the longest of these products in the last step that had one"),
    ("fetch_wait_ps", "i8", "time that steps began later for adapters that had not arrived"),
    ("attn_nj", "i8", "energy of attention"),
    ("encode_nj", "i8", "energy of the images of the step that is planned"),
    ("draft_ps", "i8", "time in passes of the draft model"),
    ("at_group", "i8", "where the sections of `work` begin"),
    ("at_rank", "i8", "see `at_group`"),
    ("at_lane", "i8", "see `at_group`"),
    ("lane_size", "i8", "see `at_group`"),
    ("in_need", "i8", "inside a lane: blocks that the next steps of its decodes take"),
    ("in_give", "i8", "inside a lane: blocks that their windows leave behind"),
    ("in_running", "i8", "inside a lane"),
    ("in_plan", "i8", "inside a lane"),
    ("in_memory", "i8", "inside a lane"),
    ("book_head", "i8", "where the sections of `book` begin"),
    ("book_gap", "i8", "see `book_head`"),
    ("book_attn", "i8", "see `book_head`"),
    ("book_draft", "i8", "see `book_head`: of the draft model, passes by tokens"),
    ("book_draft_head", "i8", "likewise, by sampled tokens"),
    ("book_draft_attn", "i8", "likewise, attention accounts"),
    ("book_log", "i8", "see `book_head`"),
    ("log_max", "i8", "steps that the log holds"),
    ("token_ps", "f8", "KV tokens held, times picoseconds"),
    ("final_ps", "f8", "KV tokens that will be held in the end, likewise"),
    ("asked_ps", "f8", "KV tokens asked for"),
    ("allocated_ps", "f8", "KV tokens that the allocated blocks could hold"),
)
ENGINE = record(ENGINE_FIELDS)
COUNTERS: tuple[str, ...] = (
    "num_step", "num_row", "num_token", "num_pad_token", "num_sampled", "num_prefill_step", "num_decode_step",
    "num_recompute", "num_swap", "num_evict", "num_hit_token", "num_moved_block", "num_span_step", "num_span_token",
    "num_fetch", "num_adapter_step", "num_plan", "num_finished", "num_refused", "num_aborted", "num_output_token",
    "peak_block", "beside_ps", "adapter_ps", "adapter_nj", "adapter_kb", "adapter_mflop", "adapter_bound",
    "fetch_wait_ps", "kv_wait_ps", "num_below_token",
)  # fmt: skip
INTEGRALS: tuple[str, ...] = ("token_ps", "final_ps", "asked_ps", "allocated_ps")

RESERVES: tuple[str, ...] = ("paged", "max", "pow2", "oracle")
PAGED, RESERVE_MAX, RESERVE_POW2, RESERVE_ORACLE = range(len(RESERVES))

ORDERS: tuple[str, ...] = ("lru", "lfu", "belady")
LRU, LFU, BELADY = range(len(ORDERS))

LANE_FIELDS: tuple[Field, ...] = (
    ("num", "i8", "sequences in its running list"),
    ("num_plan", "i8", "rows planned"),
    ("plan_token", "i8", "tokens planned, padding not counted"),
    ("in_flight", "i8", "1: its step has not ended"),
    ("empty", "i8", "1: its plan was empty and takes a place in flight all the same, as a batch without rows"),
    ("asleep", "i8", "1: its last plan was empty, and nothing has changed since"),
    ("end_ps", "i8", "of the step in flight"),
    ("last_end_ps", "i8", "of the step before"),
    ("begun_ps", "i8", "when the first stage began the step in flight"),
    ("stands", "i8", "steps for which the plan is known to stay the same"),
    ("repeat_epoch", "i8", "the engine's epoch when that was known"),
    ("repeating", "i8", "1: the step in flight repeats the last plan"),
    ("span_token", "i8", "keys that the step in flight does not read again"),
    ("ready_ps", "i8", "when the adapters of its plan have arrived"),
    ("adapter_ps", "i8", "what a layer of the step in flight computes for adapters"),
    ("adapter_nj", "i8", "energy of that, all devices of a stage"),
    ("adapter_kb", "i8", "kilobytes of memory, likewise"),
    ("adapter_mflop", "i8", "MFLOP, likewise"),
    ("deferred", "i8", "committed steps not yet written to the sequences"),
    ("num_still", "i8", "rows of the plan that may be repeated"),
    ("num_grow", "i8", "rows that gain a token a step"),
    ("room", "i8", "free blocks that the plan wants before it takes any, as far as there are some to evict"),
    ("phase", "i8", "entry of `need` and `give` that the next step takes"),
    ("deadline_ps", "i8", "from then on its plan must be made anew: a request is to be aborted"),
    ("free_ps", "i8", "when the stage of this number can begin its next step"),
    ("busy_ps", "i8", "time of that stage in steps, host included"),
    ("attn_ps", "i8", "attention of that stage in the step being priced"),
    ("draft_ps", "i8", "passes of the draft model that come before it (the first stage's)"),
)
LANE = record(LANE_FIELDS)

UNIT_FIELDS: tuple[Field, ...] = (
    ("unit", "i4", "its name"),
    ("engine", "i4", "in which store it lies: an engine's by its index, a tier's by the numbers behind these"),
    ("rank", "i4", "what its eviction goes by, smallest first: uses (LFU), the next use, negative (Belady)"),
    ("ref", "i4", "sequences that hold it"),
    ("block", "i4", "blocks that it takes"),
    ("ready_ps", "i8", "when it has arrived from the host; 0: it was computed here"),
    ("made", "i8", "a state: the plan (by `num_plan`) that last named one of this name"),
    ("row", "i4", "rows of the step being priced that hold it (see `kernels.engine.span`)"),
    ("previous", "i4", "links in the order of eviction, where nobody holds it"),
    ("next", "i4", "see `previous`"),
    ("above", "i4", "the unit before it in the same branch"),
    ("below", "i4", "the one behind it, likewise"),
    ("tail", "i4", "one above the sequence whose own blocks end its branch; 0: none"),
    ("chain", "i4", "next entry of the same bucket, or of the free ones"),
    ("bucket", "i4", "first entry of the bucket of this number"),
)
UNIT = record(UNIT_FIELDS)
"""Entry 0 is none: its `chain` heads the free entries, its `ref` is the highest entry ever used, its `unit` the number
of buckets, a power of two. Entries are used from the first on, so that what is never resident takes no memory."""

PREFILL, DECODE, IDLE, LOST = range(4)  # roles; IDLE is computed beside the others and commits nothing
# LOST: its sequence was preempted while it was in flight: no KV, and of its tokens the committed ones
ROW_FIELDS: tuple[str, ...] = ("sequence", "role", "token", "pad")  # of a plan
SEQ, ROLE, TOKEN, PAD = range(len(ROW_FIELDS))
ROW = len(ROW_FIELDS)

KV_FIELDS: tuple[str, ...] = (  # a lane's next decode, by attention class: keys; and what spans that are shared cost
    "sum", "grow", "max_grow", "max_still", "span_ps", "span_nj", "span_bound", "span_kb", "span_mflop",
)  # fmt: skip
KV_SUM, KV_GROW, KV_MAX_GROW, KV_MAX_STILL, SPAN_PS, SPAN_NJ, SPAN_BOUND, SPAN_KB, SPAN_MFLOP = range(len(KV_FIELDS))
NUM_KV_FIELD = len(KV_FIELDS)

GROUP_FIELDS: tuple[str, ...] = ("rule", "size", "weight")  # size in tokens; weight: blocks for `block_token` tokens
GROUP_RULE, GROUP_SIZE, GROUP_WEIGHT = range(len(GROUP_FIELDS))
RULES: tuple[str, ...] = ("linear", "window", "budget", "ratio", "state", "align")
LINEAR, WINDOW, BUDGET, RATIO, STATE, ALIGN = range(len(RULES))

RANK_FIELDS: tuple[str, ...] = ("size", "block", "fetch_ps")  # of an adapter; picoseconds on the link to the host
RANK_SIZE, RANK_BLOCK, RANK_FETCH_PS = range(len(RANK_FIELDS))

TIER_FIELDS: tuple[str, ...] = (  # of a store below engines, in `book`; units of a prefix, picoseconds
    "store", "order", "free", "head", "tail", "stays", "latency_ps", "link", "via", "num_read", "num_write", "num_lost",
)  # fmt: skip
(TIER_STORE, TIER_ORDER, TIER_FREE, TIER_HEAD, TIER_TAIL, TIER_STAYS, TIER_LATENCY_PS, TIER_LINK, TIER_VIA,
 TIER_READ, TIER_WRITE, TIER_LOST) = range(len(TIER_FIELDS))  # fmt: skip
# store: among those of units; stays: 1, what is read stays there too; link, via: where in `book` the links lie that it
# passes (via: -1, no other); lost: evicted from it to nowhere
LINK_FIELDS: tuple[str, ...] = ("up_ps", "down_ps", "read_ps", "write_ps")  # free from, a direction; of a unit
LINK_UP_PS, LINK_DOWN_PS, LINK_READ_PS, LINK_WRITE_PS = range(len(LINK_FIELDS))

LOG_COLUMNS: tuple[str, ...] = (
    "replica", "lane", "start_ps", "end_ps", "num_prefill", "num_decode", "num_idle", "prefill_token", "pad_token",
    "num_sampled", "moved_block", "used_block", "cached_block", "kv_token", "num_running", "num_waiting", "energy_nj",
)  # fmt: skip
NUM_LOG_COLUMN = len(LOG_COLUMNS)

ACCOUNT_FIELDS: tuple[str, ...] = ("ps", "nj", "kb", "mflop")  # of attention, by class, phase and bound
NUM_ACCOUNT_FIELD = len(ACCOUNT_FIELDS)

MAX_OPTION = 12
MAX_MEMORY = 16  # integers of a lane that are the progress model's own
IN_PROGRESS = MAX_OPTION  # where the progress model's options begin in `real`
IN_FEATURE = IN_PROGRESS + MAX_OPTION
IN_FLIGHT_RING = 0  # where the ring of lanes in flight begins in `work`
IN_GATE = 1  # of `book`: one above the next request that a cap on concurrency holds back; 0: none. Entry 0 counts the
# logged steps
IN_TOKEN = 2  # where counts of steps by tokens begin in `book`


class Engine(NamedTuple):
    """One engine, as compiled code sees it; `seq`, `unit`, `unit_id` and `book` are shared by all."""

    seq: Records  # [sequence] SEQUENCE
    me: Any  # the ENGINE record
    lane: Records  # [lane] LANE
    work: Ints
    unit: Records  # [1 + most resident units] UNIT
    unit_id: SmallInts  # [2, ...] names of the units of all sequences, and the entries of `unit` that they hold; where
    # Belady evicts, a third row: their next use; where states are found, a fourth: which are held at the units' ends
    store: SmallInts  # [node] the buddy tree of a contiguous store
    real: Floats  # options of policy and progress model | attention features: prompts, verifications, spans that are
    # shared, draft model
    book: Ints  # logged steps | gate | steps by tokens | by sampled tokens | gaps | attention accounts | the same three
    # of the draft model's passes | log of steps | tiers and their links
    table: Ints  # where all of it lies, for compiled code (see `kernels.engine.handle`)
    at: int


class World(NamedTuple):
    """Engines of one pool: the arrays of every engine behind one leading axis, what they share, and their clock."""

    seq: Records
    engine: Records  # [engine] ENGINE
    lane: Records  # [engine, lane] LANE
    work: Ints  # [engine, ...]
    unit: Records
    unit_id: SmallInts
    store: SmallInts  # [engine, node]
    real: Floats  # [engine, ...]
    book: Ints
    order: SmallInts  # sequences without a parent, by arrival
    heap: Ints  # [2, engine] engines by their next event, and where each stands (see `kernels.engine.heap`)
    event: Ints  # [engine] when each acts next, twice the picoseconds plus the kind of event
    control: Ints  # [CONTROL_FIELDS]
    handle: Ints  # [engine, ...] the table of each
    table: Ints
    at: int


class Fleet(NamedTuple):
    """What a router sees: every engine, and its own options and memory."""

    seq: Records
    engine: Records
    unit: Records
    unit_id: SmallInts
    option: Floats  # in the order of the file's OPTIONS
    memory: Ints  # [0]: the seed; the rest is the router's own, zero at first
    table: Ints
    at: int


CONTROL_FIELDS: tuple[str, ...] = ("cursor", "linked", "stuck_engine", "request_ps", "future_root", "handed_root")
CURSOR, LINKED, STUCK_ENGINE, REQUEST_PS, FUTURE_ROOT, HANDED_ROOT = range(len(CONTROL_FIELDS))
