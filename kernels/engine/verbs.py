"""What a policy may do with an engine: look at the queue, admit, make room, preempt, schedule.

This is the module that a policy file imports. A plan is made for one lane (a microbatch of the pipeline; without
pipeline stages there is one lane). Its running sequences stand in order of key or of admission, as the engine's
profile says, so that the tail is the one to preempt. A policy that wants something that does not fit gets `False`
(or -1) and decides what to do; one that asks for what cannot be (a sequence that does not exist or does not run, one
twice in a plan, tokens without KV) gets a `PlanError`. `e` is the engine, `i` a sequence.
"""

from kernels.engine.admission import admit
from kernels.engine.branch import look_up
from kernels.engine.brings import bring
from kernels.engine.heap import head
from kernels.engine.lanes import exists, is_swapped, lane_at, list_of, repeated_block, settle_all
from kernels.engine.preemption import grow, grow_or_preempt, preempt
from kernels.engine.records import (
    DECODE,
    DONE,
    IDLE,
    LEAVING,
    MAX_OPTION,
    PAD,
    PAGED,
    PREFILL,
    ROLE,
    ROW,
    RUNNING,
    SEQ,
    TOKEN,
    Engine,
)
from kernels.engine.snapshot import aligned, name_states
from kernels.engine.store import (
    below_unit,
    idle_block,
    make_room,
    missing_block,
    own_block,
    resident_key,
    resident_unit,
    share,
    step_block,
)
from kernels.errors import PlanError
from kernels.jit import njit, njit_inline

FOREVER = 1 << 40
"""A plan of decodes that stands until something arrives, ends or runs out of blocks."""

__all__ = [
    "FOREVER",
    "admit",
    "aligned_token",
    "cached_token",
    "decode_token",
    "goes_on",
    "grow",
    "grow_or_preempt",
    "head",
    "is_alone",
    "is_done",
    "is_idle",
    "is_shut",
    "is_swapped",
    "kv_token",
    "left_output",
    "left_token",
    "make_room",
    "max_step_token",
    "num_lane",
    "num_running",
    "option",
    "output_token",
    "owed_token",
    "page_token",
    "part_of",
    "place_of",
    "planned_token",
    "preempt",
    "prefill_left",
    "program_of",
    "prompt_token",
    "recall",
    "remember",
    "room_beside",
    "room_token",
    "running",
    "schedule",
    "schedule_idle",
    "schedule_next",
    "shut",
    "step_number",
    "target_token",
    "touched",
    "wanted_token",
    "whole_token",
]  # fmt: skip


@njit_inline
def option(e: Engine, k: int) -> float:
    """The k-th of the policy's options."""
    if k < 0 or k >= MAX_OPTION:
        raise PlanError("asks for an option that does not exist")
    return e.real[k]


@njit_inline
def max_step_token(e: Engine) -> int:
    """Tokens that a step may compute."""
    return e.me.max_step_token


@njit_inline
def touched(e: Engine) -> bool:
    """Whether this plan has admitted, preempted or moved something."""
    return e.me.touched > 0


@njit
def prompt_token(e: Engine, i: int) -> int:
    """Tokens of the prompt of sequence i."""
    exists(e, i)
    return e.seq[i].prompt


@njit
def output_token(e: Engine, i: int) -> int:
    """Tokens that sequence i will produce: what only an oracle knows."""
    exists(e, i)
    return e.seq[i].output


@njit
def target_token(e: Engine, i: int) -> int:
    """Tokens to prefill before sequence i decodes: its prompt, after a recompute what it produced too."""
    exists(e, i)
    return e.seq[i].target


@njit
def kv_token(e: Engine, i: int) -> int:
    """Tokens of sequence i whose KV is held."""
    exists(e, i)
    return e.seq[i].kv


@njit_inline
def planned_token(e: Engine, i: int) -> int:
    """Tokens of sequence i that are computed, or will be by steps that have not ended."""
    exists(e, i)
    return e.seq[i].kv + e.seq[i].ahead


@njit
def program_of(e: Engine, i: int) -> int:
    """The live program that asked for sequence i; -1: none."""
    return e.seq[i].program


@njit
def part_of(e: Engine, i: int) -> int:
    """Requests that its program had asked for before sequence i."""
    return e.seq[i].part


@njit_inline
def num_running(e: Engine) -> int:
    """Sequences in the running list of the lane being planned."""
    return e.lane[list_of(e, e.me.plan_lane)].num


@njit_inline
def running(e: Engine, k: int) -> int:
    """The k-th sequence of that list."""
    if e.me.checked == 1 and (k < 0 or k >= num_running(e)):
        raise PlanError("looks beyond the ends of the running list")
    return e.work[lane_at(e, list_of(e, e.me.plan_lane)) + e.me.in_running + k]


@njit
def left_output(e: Engine, i: int) -> int:
    """Output tokens that sequence i may still produce: what was asked for, less what it has."""
    return e.seq[i].output - e.seq[i].produced


@njit
def page_token(e: Engine) -> int:
    """Tokens of a block."""
    return e.me.block_token


@njit
def shut(e: Engine) -> None:
    """Notes that nobody is to be admitted before a running sequence leaves."""
    e.me.shut = 1


@njit
def is_shut(e: Engine) -> bool:
    """Whether that was noted, and nobody has left since."""
    return e.me.shut == 1 and e.me.num_running > 0


@njit
def step_number(e: Engine) -> int:
    """Which step of the engine, from 1, is being planned."""
    return e.me.num_step + 1


@njit
def num_lane(e: Engine) -> int:
    """Plans that may be under way at once: the stages of a pipeline. `step_number` counts the steps of all of them."""
    return e.me.num_lane


@njit
def remember(e: Engine, value: int) -> None:
    """Keeps an integer for the policy's next plans."""
    e.me.memo = value


@njit
def recall(e: Engine) -> int:
    """What was kept last; 0 at first."""
    return e.me.memo


@njit
def room_token(e: Engine) -> int:
    """Tokens for which there are blocks that nobody holds."""
    return (e.me.free_block + e.me.evictable_block) * e.me.block_token


@njit
def is_idle(e: Engine) -> bool:
    """Whether no sequence runs, in any lane."""
    return e.me.num_running == 0


@njit
def owed_token(e: Engine) -> int:
    """Tokens for whose blocks all running sequences, of every lane, will still ask until they end."""
    settle_all(e)
    owed = 0
    for lane in range(1 if e.me.pooled == 1 else e.me.num_lane):
        first = lane_at(e, lane) + e.me.in_running
        for k in range(first, first + e.lane[lane].num):
            s = e.seq[e.work[k]]
            if s.status == RUNNING:
                held = repeated_block(e, e.work[k], s.flight - 1 if e.me.pooled == 1 else lane)
                owed += max(0, missing_block(e, e.work[k], s.prompt + s.output - 1) - held)
    return owed * e.me.block_token


@njit
def whole_token(e: Engine, i: int) -> int:
    """Tokens for whose blocks sequence i, admitted now, would ask until its end, beyond what it finds in the cache."""
    exists(e, i)
    s = e.seq[i]
    found = resident_unit(e, i)
    own = own_block(e, i, found)
    computed = found * e.me.unit_token + own * e.me.block_token
    held = (found - below_unit(e, i, found)) * e.me.unit_block + own * e.me.run_weight
    return max(0, step_block(e, computed, s.prompt + s.output - 1) - held) * e.me.block_token


@njit
def room_beside(e: Engine, i: int) -> int:
    """The same, once sequence i held what it finds in the cache."""
    found = resident_unit(e, i)
    held = own_block(e, i, found) * e.me.run_weight + idle_block(e, i, found)
    return room_token(e) - held * e.me.block_token


@njit_inline
def prefill_left(e: Engine, i: int) -> int:
    """Tokens of sequence i to prefill before it decodes; 0: it decodes."""
    exists(e, i)
    s = e.seq[i]
    return max(0, s.target - s.kv - s.ahead)


@njit_inline
def decode_token(e: Engine, i: int) -> int:
    """Tokens that a decode of sequence i computes: the next one and those drafted beyond it, none beyond the context
    (where its end is, nobody knows)."""
    exists(e, i)
    s = e.seq[i]
    return min(1 + s.draft, e.me.max_context_token - s.kv)


@njit_inline
def wanted_token(e: Engine, i: int) -> int:
    """Tokens that running sequence i could compute now: the rest of its prompt, or a decode; 0 where its last step has
    not ended or it has no more to do. Who has ended unseen is computed along."""
    exists(e, i)
    s = e.seq[i]
    if s.status != RUNNING:
        return 1 if s.status == LEAVING and e.me.ends_unseen == 1 and s.kv + 1 < e.me.max_context_token else 0
    left = s.target - s.kv - s.ahead
    if left > 0:
        return left
    if s.ahead > 0 or (s.flight > 0 and e.lane[s.flight - 1].in_flight == 1):
        return 0
    return decode_token(e, i)


@njit_inline
def aligned_token(e: Engine, i: int, start: int, num_token: int, longest: int) -> int:
    """Of `num_token` tokens of sequence i from `start` on, those that a step computes so that states can be found where
    others go on from (all of them, where none are); `longest` are the most that any step would. 0: too few."""
    exists(e, i)
    return aligned(e, i, start, num_token, longest) if e.me.state_block > 0 else num_token


@njit
def is_done(e: Engine, i: int) -> bool:
    """Whether sequence i has produced all its tokens and waits for its batch, or for the engine to hear of it."""
    exists(e, i)
    return e.seq[i].status == DONE or e.seq[i].status == LEAVING


@njit
def cached_token(e: Engine, i: int) -> int:
    """Tokens that sequence i would find computed at admission: in the prefix cache, or swapped out."""
    exists(e, i)
    if is_swapped(e, i):
        return e.seq[i].kv
    found = resident_unit(e, i)
    own = own_block(e, i, found)
    look_up(e, i, found, own)
    if e.me.state_block > 0:
        key = resident_key(e, i)
        e.seq[i].junction = key * e.me.unit_token if key > found else 0
    return found * e.me.unit_token + own * e.me.block_token


@njit_inline
def schedule(e: Engine, i: int, role: int, num_token: int, num_pad: int) -> None:
    """Adds to the plan: sequence i computes `num_token` tokens, and `num_pad` of padding."""
    me = e.me
    if me.checked == 1:
        _check_row(e, i, role, num_token, num_pad)
    lane = e.lane[me.plan_lane]
    row = lane_at(e, me.plan_lane) + me.in_plan + ROW * lane.num_plan
    e.work[row + SEQ] = i
    e.work[row + ROLE] = role
    e.work[row + TOKEN] = num_token
    e.work[row + PAD] = num_pad
    lane.num_plan += 1
    lane.plan_token += num_token
    s = e.seq[i]
    s.planned = me.num_plan
    s.recent = num_token
    if role != IDLE:
        s.ahead += num_token
        if me.pooled == 1:
            s.flight = me.plan_lane + 1
        if role == PREFILL and me.share_early == 1 and s.shared < s.num_unit:
            share(e, i, s.kv + s.ahead)
        if role == PREFILL and me.state_block > 0:
            name_states(e, i, s.kv + s.ahead - num_token, s.kv + s.ahead)
    if s.start_ps < 0:
        s.start_ps = me.now_ps
        bring(e, i)


@njit
def _check_row(e: Engine, i: int, role: int, num_token: int, num_pad: int) -> None:
    """Raises where such a row cannot be in the plan."""
    exists(e, i)
    me, s = e.me, e.seq[i]
    if s.planned == me.num_plan and s.replica == me.index:
        raise PlanError("schedules a sequence twice in one plan")
    if s.replica != me.index or s.lane != list_of(e, me.plan_lane):
        raise PlanError("schedules a sequence that is not in this running list")
    if role == IDLE:
        if s.status not in (DONE, LEAVING):
            raise PlanError("schedules a sequence as idle that is not done, or does not run")
        if num_token != 1 or num_pad != 0:
            raise PlanError("schedules an idle sequence with other than one token")
        return
    if s.status != RUNNING:
        raise PlanError("schedules a sequence that does not run, or is done")
    most = wanted_token(e, i)
    if num_token < 1 or num_token > most:
        raise PlanError("schedules other than 1 to wanted_token(e, i) tokens")
    if role != (PREFILL if prefill_left(e, i) > 0 else DECODE):
        raise PlanError("schedules with a role that the sequence is not in")
    if num_pad < 0 or num_pad > me.max_step_token or (num_pad > 0 and role == DECODE):
        raise PlanError("schedules padding that cannot be")
    if me.reserve == PAGED and missing_block(e, i, s.kv + s.ahead + num_token) > 0:
        raise PlanError("schedules tokens without KV blocks for them: ask admit or grow_or_preempt first")


@njit_inline
def schedule_next(e: Engine, i: int, num_token: int) -> None:
    """Adds running sequence i to the plan: `num_token` tokens of its prompt, or decoded ones."""
    role = PREFILL if prefill_left(e, i) > 0 else DECODE
    schedule(e, i, IDLE if e.seq[i].status == LEAVING else role, num_token, 0)


@njit
def schedule_idle(e: Engine, i: int) -> None:
    """Adds a finished sequence that is computed along with its batch and commits nothing."""
    schedule(e, i, IDLE, 1, 0)


@njit
def left_token(e: Engine) -> int:
    """Tokens that the step can still compute beside what is planned."""
    return e.me.max_step_token - e.lane[e.me.plan_lane].plan_token


@njit
def place_of(e: Engine, i: int, k: int) -> int:
    """Where sequence i, once the k-th, stands in the running list after preemptions: at most k."""
    k = min(k, num_running(e) - 1)
    while running(e, k) != i:
        k -= 1
    return k


@njit
def goes_on(e: Engine) -> bool:
    """Whether a sequence that preempted itself leaves the plan to those behind it."""
    return e.me.goes_on == 1


@njit
def is_alone(e: Engine) -> bool:
    """Whether the engine has a single request and does not cut its prompt for others."""
    return e.me.lone_prompt == 1 and e.me.num_running + e.me.num_waiting == 1
