"""Closed and open loops of a study on the serving engine: one price a machine, any batch and lengths."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

import numpy as np

from hw_models import catalog, dispatch
from hw_models.device import machine
from hw_models.memory import load_memory
from hw_models.spec import System
from kernels import machine as layout
from kernels.attention import SCORE_BYTE
from kernels.optable import ATTN_PREFILL, MOE, WORK_DTYPE
from kernels.serving import layout as at
from kernels.serving.price import StepPrice
from kernels.units import PS_PER_S
from sim.record.energy import LINK_J_PER_BYTE, pin_j_per_byte
from sim.serving.accounts import BYTE, FLOP, LINK_BYTE, PIM_BYTE, PIM_FLOP, accounts
from sim.serving.engine import serve
from sim.serving.experts import with_experts
from sim.serving.limits import Limits, Options
from sim.serving.plugin import find
from sim.serving.result import ServeResult
from sim.serving.step_price import Lowered, build, step_cost
from workloads import models, placement
from workloads.formats import parse
from workloads.lowering import Plan
from workloads.requests import Requests
from workloads.requests import build as requests_of

FLOP_J = 0.23e-12  # 0.46 pJ a multiply-accumulate (Duplex, MICRO 2024), on the xPU too
SCORE = 16.0
"""Bytes a causal query-key pair a head: the published simulator's prompts keep scores in memory, written and read for
the softmax, written and read for the second product, 2 B each, of the whole rectangle (two pairs a causal one)."""
SPREAD = 0.1  # standard deviation of lengths over their mean


@dataclass(frozen=True)
class Server:
    """A model on devices, priced for every step up to a size."""

    lowered: Lowered
    price: StepPrice
    system: System


def server(
    model: str, device: str, rule: str, *, tp: int, ep: int = 1, attn_dp: int = 1, max_token: int = 8192,
    max_seq: int = 128,
) -> Server:  # fmt: skip
    """Prices of a device's rule (`hw_models.dispatch`) at the peak rates of its engines. Several attention groups share
    up to `max_seq` sequences; what a step has beyond them is a prompt, which lies on one of the groups."""
    card, formats = models.load(model), parse("fp16")
    kind = catalog.device(device)
    kind = replace(kind, memory=kind.memory or "hbm3_5200")
    found = System(device, catalog.node("duplex_x8", with_device=kind))
    placed = placement.make(card, tp=tp, ep=ep, attn_dp=attn_dp)
    said = dispatch.parse(rule, kind)
    arrays = machine(found)
    dispatch.fill(arrays.rate, kind, said)
    arrays.fit[ATTN_PREFILL, :, SCORE_BYTE] = SCORE
    arrays = with_experts(arrays, kind, said, card, formats, placed, max_token // attn_dp, 0)
    price, lowered = build(card, formats, placed, arrays, max_token=max_token, max_seq=max_seq)
    if attn_dp > 1:
        on_one_group(price, lowered, max_seq)
    return Server(lowered, price, found)


def on_one_group(price: StepPrice, lowered: Lowered, batch: int) -> None:
    """Prices steps of more than `batch` tokens by the attention group that holds the prompt: its dense operators are
    the slowest, while experts see the tokens of all groups."""
    total = np.arange(batch + 1, price.dense_ps.shape[1])
    group = lowered.placement.attn_dp
    ops = lowered.dense(0, (total - batch + -(-batch // group)) * group)
    experts = ops["kind"] == MOE
    ops["m"][experts] = np.broadcast_to(total[:, None], ops.shape)[experts]
    price.dense_ps[0, total] = lowered.price(ops, np.zeros(0, WORK_DTYPE))["time_ps"].sum(axis=1)


class Loop(NamedTuple):
    """A loop in its steady state. Latencies in seconds: time between tokens (of every token), to the first token from
    the moment that a place is free, and of a whole request."""

    token_per_s: float
    tbt_s: float  # median
    tbt_p99_s: float
    t2ft_s: float  # median
    e2e_s: float  # mean
    token_j: float
    mixed: float  # share of steps that hold a prompt


def lengths(mean: int, num: int, random: np.random.Generator) -> np.ndarray:
    """Gaussian lengths around a mean."""
    return np.maximum(2, np.rint(random.normal(mean, SPREAD * mean, num))).astype(np.int64)


def closed(one: Server, prompt: int, output: int, batch: int, *, rounds: int = 2, seed: int = 0) -> Loop:
    """`batch` sequences always running, at random progress to begin with; one that ends is replaced at once by the next
    request, whose whole prompt runs beside the decodes. Measured from when the batch is full until requests run out."""
    random = np.random.default_rng(seed)
    num = (rounds + 1) * batch
    into, out = lengths(prompt, num, random), lengths(output, num, random)
    done = np.minimum((random.random(batch) * out[:batch]).astype(np.int64), out[:batch] - 2)
    into[:batch] += done  # what the first have written already is read with their prompt
    out[:batch] -= done
    load = requests_of(np.zeros(num, np.int64), into, out)
    result = run(one, load, batch)
    steps = result.step
    assert steps is not None
    step = {name: steps[:, i] for i, name in enumerate(at.LOG_COLUMNS)}
    full = (step["num_waiting"] > 0) & (step["num_prefill"] + step["num_decode"] >= batch)
    first, last = np.flatnonzero(full)[[0, -1]]
    part = slice(first, last + 1)
    duration = (step["end_ps"] - step["start_ps"])[part] / PS_PER_S
    decode = step["num_decode"][part]
    span_s = (step["end_ps"][last] - step["start_ps"][first]) / PS_PER_S
    begun = result.request["start_ps"] >= step["start_ps"][first]
    whole = begun & (result.request["end_ps"] <= step["end_ps"][last])
    request = {name: values[begun] / PS_PER_S for name, values in result.request.items() if name.endswith("_ps")}
    served = {name: values[whole] / PS_PER_S for name, values in result.request.items() if name.endswith("_ps")}
    median_s, tail_s = weighted(duration, decode, (0.5, 0.99))
    return Loop(
        float(step["num_sampled"][part].sum() / span_s),
        median_s,
        tail_s,
        float(np.median(request["first_token_ps"] - request["start_ps"])),
        float((served["last_token_ps"] - served["start_ps"]).mean()) if whole.any() else float("nan"),
        joule(one, result) / int(result.counter["num_output_token"].sum()),
        float((step["num_prefill"][part] > 0).mean()),
    )


def run(one: Server, load: Requests, batch: int, num_block: int = 1 << 24) -> ServeResult:
    """Serves a load with whole prompts beside up to `batch` sequences; memory does not run out unless asked to."""
    most = one.price.dense_ps.shape[1] - 1
    policy = find("policy", f"vllm_v1:max_token={most},max_seq={batch}")
    limits = Limits(num_block=num_block, max_context_token=1 << 20, prefix_cache=False)
    return serve(cast(Any, load), one.price, policy, find("router", "round_robin"), limits, Options(record_steps=True))


def weighted(value: np.ndarray, weight: np.ndarray, quantiles: tuple[float, ...]) -> list[float]:
    """Quantiles of values that each count `weight` times."""
    order = np.argsort(value)
    total = np.cumsum(weight[order])
    return [float(value[order][np.searchsorted(total, q * total[-1])]) for q in quantiles]


def joule(one: Server, result: ServeResult) -> float:
    """Joules by level, as the paper counts them: rows opened, bytes at the pins or at the units, multiply-accumulates,
    links."""
    device = one.system.device
    amount = accounts(result, one.lowered).amount.sum(axis=0)
    part = load_memory(device.memory)
    act_j = part.act_j / part.dram.page_byte * (amount[BYTE] + amount[PIM_BYTE])
    total = act_j + amount[BYTE] * pin_j_per_byte(device) + amount[FLOP] * FLOP_J + amount[LINK_BYTE] * LINK_J_PER_BYTE
    rate = one.lowered.machine.rate
    return float(total + amount[PIM_BYTE] * rate[layout.PIM_BYTE_J] + amount[PIM_FLOP] * rate[layout.PIM_FLOP_J])


class Served(NamedTuple):
    """A load that arrives by itself."""

    request_per_s: float
    tbt_s: float  # median


def poisson(one: Server, rate: float, num: int, prompt: int, output: int, batch: int, *, seed: int = 1) -> Served:
    """`num` requests at `rate` a second on at most `batch` sequences: requests served a second, median gap."""
    random = np.random.default_rng(seed)
    arrival = np.cumsum(random.exponential(PS_PER_S / rate, num)).astype(np.int64)
    result = run(one, requests_of(arrival, lengths(prompt, num, random), lengths(output, num, random)), batch)
    steps = result.step
    assert steps is not None
    step = {name: steps[:, i] for i, name in enumerate(at.LOG_COLUMNS)}
    gap = (step["end_ps"] - step["start_ps"]) / PS_PER_S
    return Served(
        num / (int(result.request["last_token_ps"].max()) / PS_PER_S), *weighted(gap, step["num_decode"], (0.5,))
    )


def step_s(one: Server, prompts: list[int], kv_lens: list[int]) -> float:
    """Seconds of one iteration of whole prompts and of decodes at so many tokens."""
    query = np.array([*prompts, *([1] * len(kv_lens))], np.int64)
    decode = np.arange(len(query)) >= len(prompts)
    plan = Plan(query, np.array([*prompts, *kv_lens], np.int64), decode, np.ones(len(query), bool))
    return float(step_cost(one.price, one.price, plan)[0].sum()) / PS_PER_S
