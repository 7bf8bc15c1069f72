"""A fleet's arrays before the first event: requests, limits and prices turned into a `Stack`."""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from kernels.attention import NUM_FEATURE
from kernels.errors import InputError
from kernels.optable import BOUNDS
from kernels.serving import buddy
from kernels.serving import layout as at
from kernels.serving.gap import NUM_BUCKET
from kernels.serving.price import HOST_REQUEST, StepPrice
from kernels.units import to_ps
from sim.serving.limits import Limits, Options, max_seq, max_token
from sim.serving.plugin import Plugin

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


def build(requests: Requests, price: StepPrice, policy: Plugin, limits: Limits, options: Options) -> at.Stack:
    """Arrays of a fleet at rest, all requests in the future. Raises `InputError` where the parts do not fit."""
    num_stage, seqs, tokens = len(price.dense_ps), max_seq(policy), max_token(policy, limits)
    if price.dense_ps.shape[1] <= tokens or len(price.head_ps) <= seqs:
        raise InputError(
            f"prices reach {price.dense_ps.shape[1] - 1} tokens and {len(price.head_ps) - 1} sequences a step",
            field=policy.name,
            value=f"max_token={tokens},max_seq={seqs}",
        )
    reserve = at.PAGED
    if "reserve" in policy.value:
        name = str(policy.module.OPTIONS["reserve"].choices[int(policy.value["reserve"])])
        reserve = at.RESERVES.index(name)
    has_unit = limits.prefix_cache and reserve == at.PAGED and len(requests.unit_id) > 0
    if has_unit and requests.unit_token % limits.block_token:
        raise InputError(
            "does not divide the prefix units of the load",
            field="block_token", value=limits.block_token, allowed=f"divisors of {requests.unit_token}",
        )  # fmt: skip
    store = np.zeros(1, np.int32)
    if reserve != at.PAGED:
        store = buddy.build(limits.num_block)
    elif has_unit:
        store = np.full(at.NUM_UNIT_FIELD * (int(requests.unit_id.max()) + 1), -1, np.int32)
    size = at.Sizes(
        num_stage, len(price.decode_shape), seqs, tokens, limits.block_token, len(store), NUM_FEATURE, len(BOUNDS),
        NUM_BUCKET, max(1024, LOG_CAPACITY // limits.num_replica) if options.record_steps else 0,
    )  # fmt: skip
    unit_id = np.ascontiguousarray(requests.unit_id if has_unit else np.zeros(1), np.int32)
    order = np.flatnonzero(requests.parent < 0).astype(np.int32)
    s = at.stack(len(requests.arrival_ps), limits.num_replica, size, unit_id, order)
    s.store[:] = store
    vector = policy.vector()
    s.real[:, at.IN_OPTION : at.IN_OPTION + len(vector)] = vector
    s.control[at.LINKED] = int(len(order) < len(requests.arrival_ps))
    s.control[at.REQUEST_PS] = price.host_ps[HOST_REQUEST]
    _fill_seq(s.seq, requests, has_unit, options.order)
    share = limits.watermark if limits.watermark is not None else getattr(policy.module, "WATERMARK", 0.01)
    for register, value in (
        (at.MAX_CONTEXT, limits.max_context_token),
        (at.NUM_BLOCK, limits.num_block),
        (at.FREE_BLOCK, limits.num_block),
        (at.WATERMARK_BLOCK, int(share * limits.num_block) if reserve == at.PAGED else 0),
        (at.UNIT_TOKEN, requests.unit_token if has_unit else limits.block_token),
        (at.UNIT_BLOCK, requests.unit_token // limits.block_token if has_unit else 1),
        (at.HOST_FREE_BLOCK, limits.host_block),
        (at.RESERVE, reserve),
        (at.SWAP, int(limits.preemption == "swap")),
        (at.HOLD, int(policy.flag("HOLD"))),
        (at.WHOLE_PROMPT, int(policy.flag("WHOLE_PROMPT"))),
        (at.PLAN_AHEAD, limits.plan_ahead if num_stage == 1 else 0),  # a pipeline has other lanes to plan meanwhile
        (at.TIMEOUT, to_ps(limits.timeout_s)),
    ):
        s.reg[:, register] = value
    return s


def _fill_seq(seq: at.Ints, requests: Requests, has_unit: bool, order: str) -> None:
    seq[:, at.ARRIVAL] = requests.arrival_ps
    seq[:, at.PROMPT] = requests.prompt_token
    seq[:, at.OUTPUT] = requests.output_token
    seq[:, at.THINK] = requests.think_ps
    seq[:, at.KEY] = -1
    if order != "fcfs":
        seq[:, at.KEY] = requests.predicted_token if order == "sjf" else requests.priority
    for column in (at.REPLICA, at.CHILD, at.SIBLING, at.START, at.FIRST, at.LAST, at.END):
        seq[:, column] = -1
    if has_unit:
        seq[:, at.UNIT_START] = requests.unit_start
        seq[:, at.UNIT_STOP] = requests.unit_stop
    for i in np.flatnonzero(requests.parent >= 0)[::-1]:  # so that children stand in order
        parent = requests.parent[i]
        seq[i, at.SIBLING] = seq[parent, at.CHILD]
        seq[parent, at.CHILD] = i
