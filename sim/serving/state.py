"""A pool's arrays before the first event: requests, limits and prices turned into a `World`."""

from typing import Protocol, cast

import numpy as np
import numpy.typing as npt

from kernels import blame
from kernels.attention import NUM_FEATURE
from kernels.engine import arrays, buddy
from kernels.engine import records as at
from kernels.engine.brings import give
from kernels.engine.draw import MASK
from kernels.engine.gap import NUM_BUCKET
from kernels.engine.gate import shut
from kernels.engine.heap import NEVER, reset
from kernels.engine.price import HOST_REQUEST, StepPrice
from kernels.errors import InputError
from kernels.jit import PLAIN
from kernels.optable import BOUNDS
from kernels.units import FOREVER_PS, to_ps
from sim.serving import tiers
from sim.serving.limits import Limits, Options, finds_state, max_sampled, max_seq, max_token
from sim.serving.plugin import Plugin
from sim.serving.rules import Group
from sim.serving.speculation import lookahead
from workloads.block_names import blocks_named
from workloads.requests import Requests as Load

LOG_CAPACITY = 1 << 16  # step records kept, over all replicas, before they are handed over


class Requests(Protocol):
    """What the engine reads of `workloads.requests.Requests`: columns of one entry a request."""

    arrival_ps: npt.NDArray[np.int64]
    prompt_token: npt.NDArray[np.int32]
    output_token: npt.NDArray[np.int32]
    predicted_token: npt.NDArray[np.int32]
    priority: npt.NDArray[np.int8]
    unit_start: npt.NDArray[np.int64]
    unit_stop: npt.NDArray[np.int64]
    unit_id: npt.NDArray[np.int32]
    unit_token: int
    parent: npt.NDArray[np.int32]
    think_ps: npt.NDArray[np.int64]
    adapter: npt.NDArray[np.int32]
    max_concurrency: int


def build(requests: Requests, price: StepPrice, policy: Plugin, limits: Limits, options: Options) -> at.World:
    """Arrays of a pool at rest, all requests in the future. Raises `InputError` where the parts do not fit."""
    num_stage, seqs, tokens = len(price.dense_ps), max_seq(policy), max_token(policy, limits)
    sampled = max_sampled(policy, limits)
    if price.dense_ps.shape[1] <= tokens or len(price.head_ps) <= sampled:
        raise InputError(
            f"prices reach {price.dense_ps.shape[1] - 1} tokens and {len(price.head_ps) - 1} sampled ones a step",
            field=policy.name,
            value=f"max_token={tokens},max_seq={seqs}: {sampled} sampled",
        )
    draft = price.draft
    if draft is not None and min(draft.dense_ps.shape[1], len(draft.head_ps)) <= tokens:
        raise InputError(f"the draft model's prices reach {len(draft.head_ps) - 1} tokens", field="draft_model",
                         value=tokens)  # fmt: skip
    reserve = at.PAGED
    if "reserve" in policy.value:
        name = str(policy.module.OPTIONS["reserve"].choices[int(policy.value["reserve"])])
        reserve = at.RESERVES.index(name)
    paged = reserve == at.PAGED
    run_weight = sum(group.weight for group in limits.groups if group.rule == "linear")
    # a recurrent state is that of its last token: what others computed of a prefix, or it itself before it was
    # preempted, cannot be gone on from; but where states stay behind, every block has a name, with which one is found
    kept = limits.found_state
    if kept is not None and isinstance(requests, Load) and finds_state(policy):
        requests = cast(Requests, blocks_named(requests, limits.block_token))
    elif kept is not None:
        kept, limits = None, limits.without_found_state()
    finds = limits.prefix_cache and paged and run_weight > 0 and not limits.has_state
    has_unit = finds and len(requests.unit_id) > 0
    if has_unit and requests.unit_token % limits.block_token:
        raise InputError(
            "does not divide the prefix units of the load",
            field="block_token", value=limits.block_token, allowed=f"divisors of {requests.unit_token}",
        )  # fmt: skip
    start, names = requests.unit_start, requests.unit_id
    knows = at.BELADY in (at.ORDERS.index(limits.evict), *(tier.order for tier in limits.tiers))
    if has_unit and (limits.rules.keep_duplicate or limits.num_replica > 1 or knows):
        start, names = _apart(requests)  # beside each name stands which engine's entry the sequence holds
    num_name = len(names)
    unit_id = np.zeros((4 if kept else 3 if knows else 2, len(names) if has_unit else 1), np.int32)
    if has_unit:
        unit_id[0] = names
        if knows:
            unit_id[2] = _next_use(requests, start, names)
    unit_block = run_weight * (requests.unit_token // limits.block_token) if has_unit else 1
    num_unit = limits.num_replica * (limits.num_block // unit_block)  # what fits, copies counted
    if kept:
        num_unit = limits.num_replica * (limits.num_block // min(unit_block, kept.weight))
        num_name *= 2
    if not limits.rules.keep_duplicate:
        num_unit = min(num_unit, num_name)  # one a name and engine
    num_unit = num_unit if has_unit else 0
    num_name = max(1, num_name) if has_unit else 0
    below = limits.tiers if has_unit else ()
    if below:  # what comes up has its entry before what it evicts has lost its own
        num_unit += limits.num_replica * (limits.num_block // unit_block)
    num_unit += tiers.num_unit(below, limits.num_replica, unit_block, num_name)
    num_name *= 1 + len(below)
    if limits.ranks:
        if not paged:
            raise InputError("adapters share blocks with KV", field=policy.name, value="reserve", allowed="paged")
        num_adapter = int(requests.adapter.max()) + 1
        least = min(rank.num_block for rank in limits.ranks)
        num_adapter = limits.num_replica * min(num_adapter, limits.num_block // least)
        num_unit += num_adapter
        num_name += num_adapter
    node = np.zeros(1, np.int32) if paged else buddy.build(limits.num_block)
    size = arrays.Sizes(
        num_stage, len(price.decode_shape), len(price.scan), len(limits.groups), len(limits.ranks), seqs, tokens,
        sampled, limits.block_token, len(node), num_unit, buddy.ceil_pow2(max(1, min(num_unit, num_name))), NUM_FEATURE,
        len(BOUNDS), NUM_BUCKET, LOG_CAPACITY if options.record_steps else 0,
        0 if draft is None else len(draft.decode_shape), len(below), tiers.num_int(below, limits.num_replica),
    )  # fmt: skip
    order = np.flatnonzero(requests.parent < 0).astype(np.int32)
    gated = order[requests.max_concurrency :] if requests.max_concurrency else order[:0]
    order = order[: len(order) - len(gated)]
    w = arrays.world(len(requests.arrival_ps), limits.num_replica, size, unit_id, order)
    w.store[:] = node
    vector = policy.vector()
    w.real[:, : len(vector)] = vector
    if policy.progress is not None:
        vector = policy.progress.vector()
        w.real[:, at.IN_PROGRESS : at.IN_PROGRESS + len(vector)] = vector
    groups = [(at.RULES.index(group.rule), group.size_token, group.weight) for group in limits.groups]
    w.work[:, num_stage : num_stage + len(at.GROUP_FIELDS) * len(groups)] = np.ravel(groups)
    ranks = np.array([(rank.size, rank.num_block, rank.fetch_ps) for rank in limits.ranks], np.int64)
    at_rank = int(w.engine["at_rank"][0])
    w.work[:, at_rank : at_rank + ranks.size] = ranks.ravel()
    if limits.ranks:
        w.seq["adapter"] = requests.adapter + 1
    if limits.images is not None:
        give(w.seq, limits.images.time_ps, limits.images.energy_nj)
    w.control[at.LINKED] = int(len(order) < len(requests.arrival_ps) or tiers.are_shared(below, limits.num_replica))
    w.control[at.REQUEST_PS] = price.host_ps[HOST_REQUEST]
    _fill_seq(w.seq, requests, has_unit, options.order)
    shut(w.seq, w.book, gated)
    if has_unit:
        w.seq["unit_start"] = start
    share = limits.watermark if limits.watermark is not None else getattr(policy.module, "WATERMARK", 0.01)
    rules = limits.rules
    for field, value in (
        ("plain", int(limits.groups == (Group(),))),
        ("run_weight", run_weight),
        ("gives_back", int(any(group.rule in ("window", "budget") for group in limits.groups))),
        ("max_context_token", limits.max_context_token),
        ("state_block", kept.weight if kept else 0),
        ("state_export", kept.size_token if kept else 0),
        ("num_block", limits.num_block),
        ("free_block", limits.num_block),
        ("watermark_block", int(share * limits.num_block) if paged else 0),
        ("unit_token", requests.unit_token if has_unit else limits.block_token),
        ("unit_block", unit_block),
        ("evict_by", at.ORDERS.index(limits.evict)),
        ("host_free_block", limits.host_block),
        ("reserve", reserve),
        ("checked", int(PLAIN or str(policy.module.__file__) in blame.FILES)),
        ("swap", int(limits.preemption == "swap")),
        ("hold", int(policy.flag("HOLD"))),
        ("whole_prompt", int(policy.flag("WHOLE_PROMPT"))),
        ("plan_ahead", limits.plan_ahead if num_stage == 1 else 0),  # a pipeline has other lanes to plan meanwhile
        ("timeout_ps", to_ps(limits.timeout_s)),
        ("max_queue", limits.max_queue),
        ("max_in_flight", limits.max_in_flight),
        ("own_cache", int(rules.own_cache and finds and kept is None)),
        ("share_early", int(rules.share_early)),
        ("end_late", int(limits.plan_ahead == 1 and num_stage == 1 and rules.end_late)),
        ("ends_unseen", int(limits.ends == "token")),
        ("empty_ends", int(rules.empty_ends)),
        ("empty_fills", int(rules.empty_fills)),
        ("admit_whole", int(rules.admit_whole)),
        ("pooled", int(rules.pooled and num_stage > 1 and not policy.flag("HOLD"))),  # a held batch is its lane's
        ("by_admission", int(rules.by_admission)),
        ("victim_by_key", int(rules.by_admission and options.order != "fcfs")),
        ("goes_on", int(rules.goes_on)),
        ("drains", int(rules.drains and rules.pooled and num_stage > 1 and not policy.flag("HOLD"))),
        ("release_order", int(rules.release_order)),
        ("radix", int(rules.radix)),
        ("keep_duplicate", int(rules.keep_duplicate)),
        ("kept_token", max((group.size_token for group in limits.groups if group.rule == "budget"), default=0)),
        ("span_row", limits.spans.least_row if has_unit else 0),
        ("span_token", limits.spans.least_token),
        ("span_common", int(limits.spans.common)),
        ("lone_prompt", int(rules.lone_prompt)),
        ("lookahead", lookahead(policy)),
        ("seed", (options.seed ^ options.seed >> 31 ^ options.seed >> 62) & MASK),
    ):
        w.engine[field] = value
    tiers.fill(w, below, unit_block)
    for k in range(limits.num_replica):
        reset(w, k, NEVER)
    return w


def _next_use(requests: Requests, start: npt.NDArray[np.int64], names: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Of each name that a request has, the next request in order of arrival that has it too, negative: what Belady
    keeps longest is largest."""
    never = np.iinfo(np.int32).min
    rank = np.full(len(names), never, np.int32)
    due = np.full(int(names.max(initial=0)) + 1, never, np.int32)
    count = requests.unit_stop - requests.unit_start
    for i in np.argsort(requests.arrival_ps, kind="stable")[::-1].tolist():
        here = slice(int(start[i]), int(start[i] + count[i]))
        rank[here] = due[names[here]]
        due[names[here]] = -i
    return rank


def _apart(requests: Requests) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """Where each request's names begin, and the names, so that no two requests name theirs in one place: where copies
    of a block are kept, each holds its own, and notes beside the name which one it is."""
    count = requests.unit_stop - requests.unit_start
    total = int(count.sum())
    if total <= len(requests.unit_id) and len(np.unique(requests.unit_start[count > 0])) == int((count > 0).sum()):
        order = np.argsort(requests.unit_start[count > 0], kind="stable")
        stop = requests.unit_stop[count > 0][order]
        if (stop[:-1] <= requests.unit_start[count > 0][order][1:]).all():
            return requests.unit_start, requests.unit_id  # they are apart already
    start = np.cumsum(count) - count
    place = np.arange(total) - np.repeat(start - requests.unit_start, count)
    return start, requests.unit_id[place]


def _fill_seq(seq: at.Records, requests: Requests, has_unit: bool, order: str) -> None:
    if len(requests.arrival_ps) and int(requests.arrival_ps.max()) >= FOREVER_PS:
        raise InputError("arrives after what the clock reaches", field="requests", allowed="within 52 days")
    seq["arrival_ps"] = requests.arrival_ps
    seq["prompt"] = requests.prompt_token
    seq["output"] = requests.output_token
    seq["think_ps"] = requests.think_ps
    seq["key"] = -1
    seq["program"] = -1
    if order != "fcfs":
        seq["key"] = requests.predicted_token if order == "sjf" else requests.priority
    for field in ("replica", "child", "sibling", "start_ps", "first_ps", "last_ps", "end_ps", "left", "right"):
        seq[field] = -1
    if has_unit:
        seq["num_unit"] = requests.unit_stop - requests.unit_start
    for i in np.flatnonzero(requests.parent >= 0)[::-1]:  # so that children stand in order
        parent = requests.parent[i]
        seq["sibling"][i] = seq["child"][parent]
        seq["child"][parent] = i
