"""What no engine of a kind can beat, from its prices alone: times of a prompt and a token, requests a second.

Every bound is of the prices that the simulation charges, so that it never rejects what the simulation would accept:

- the first token of a prompt comes after its own tokens have been computed, alone and without the host's time;
- a token of a sequence takes at least a step of its own;
- a request keeps an engine busy for at least its tokens at the price of the best batch of all (dense operators), its
  attention at the mean length (attention is convex in the length) in the best batch, and a head a token; and decodes
  take at least as many steps as the keys that fit into the memory force.
"""

import dataclasses

import numpy as np

from kernels.errors import InputError
from kernels.units import PS_PER_S
from sim.run.profile import profile_of
from sim.run.scenario import Scenario
from sim.run.setup import Setup
from sim.run.simulate import limits_of, policy_of, prepared
from sim.run.step_prices import priced
from sim.serving.limits import max_seq, max_token
from sim.serving.step_price import step_cost
from workloads.lowering import Plan
from workloads.requests import Requests, shared_prefix_token

SMALL = 1e-9


@dataclasses.dataclass(frozen=True)
class Demand:
    """A load in the few numbers that bounds need."""

    num: int
    span_s: float  # from the first arrival to the last
    own_token: float  # prompt tokens that no earlier request has shown, mean
    prompt: float  # mean
    output: float  # mean
    context: float  # keys that an output token reads, mean
    long_own: int  # a 99th percentile of own prompt tokens, and
    short_prompt: int  # the shortest prompt
    shares: bool  # whether prompts share prefixes

    @property
    def words(self) -> str:
        """How fast requests come."""
        return f"{(self.num - 1) / self.span_s:.3g} a second" if self.span_s > 0 else "all at once"


def demand_of(load: Requests) -> Demand:
    """The demand of a load."""
    prompt, output = load.prompt_token.astype(np.float64), load.output_token.astype(np.float64)
    own = np.maximum(prompt - shared_prefix_token(load), 1.0)
    return Demand(
        len(load), float(load.arrival_ps.max() - load.arrival_ps.min()) / PS_PER_S, float(own.mean()),
        float(prompt.mean()), float(output.mean()), float((output * (prompt + output / 2)).sum() / output.sum()),
        int(np.quantile(own, 0.99, method="lower")), int(prompt.min()), bool(load.num_unit),
    )  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class Engine:
    """One engine of a kind: a scenario with `dp = 1`, what it costs, and what it cannot beat."""

    scenario: Scenario
    setup: Setup
    ttft_s: float  # of a request among the slowest hundredth
    tpot_s: float
    prefill_s: float  # busy time of an engine that a request takes at least: its prompt
    decode_s: float  # its other tokens
    busy_s: float  # both on one engine, batched together

    @property
    def num_device(self) -> int:
        return self.setup.placement.num_device

    @property
    def usd_per_h(self) -> float:
        return self.setup.price_usd_per_h

    def least(self, demand: Demand, busy_s: float, slack_s: float) -> int:
        """Engines without which 99 % of the load is not served: `busy_s` each a request, `slack_s` after the last."""
        return max(1, int(np.ceil(0.99 * demand.num * busy_s / (demand.span_s + slack_s) - SMALL)))


def engine_of(scenario: Scenario, demand: Demand) -> Engine:
    """The engine of a scenario; an `InputError` where it does not fit or cannot be priced."""
    alone = dataclasses.replace(scenario, dp=1)
    policy = policy_of(alone)
    profile = profile_of(alone)
    setup = prepared(alone, policy)
    limits = limits_of(setup, profile)
    price, _ = priced(setup, profile, policy, limits)
    tokens = max_token(policy, limits)

    def step_ps(query: int, keys: int, num: int, decode: bool) -> float:
        """Of the slowest stage: `num` sequences of `query` tokens with `keys` each."""
        one = np.ones(num, np.int64)
        plan = Plan(one * query, one * keys, one == (1 if decode else 0), one == 1)
        return float(step_cost(price, price, plan)[0].max())

    dense_ps = price.dense_ps.max(axis=0).astype(np.float64)
    head_ps = price.head_ps.astype(np.float64)
    rate_ps = float((dense_ps[1:] / np.arange(1, len(dense_ps))).min())
    sample_ps = float((head_ps[1:] / np.arange(1, len(head_ps))).min())
    context = max(1, round(demand.context))
    # keys held, summed over steps, are at most steps x what the memory holds; shared prefixes are held once
    held = setup.budget.token_capacity * setup.placement.attn_dp / context if not demand.shares else float("inf")
    batch = max(1.0, min(float(max_seq(policy)), float(tokens), held))
    whole = int(batch)

    def attention_ps(query: int, keys: int, num: int, decode: bool) -> float:
        """A sequence's share in a batch, of all layers of one stage."""
        dense = dense_ps[query * num] + head_ps[num]
        return max(0.0, step_ps(query, keys, num, decode) - dense) / num

    decode_attention_ps = min(attention_ps(1, context, num, True) for num in {1, max(1, whole // 4), whole})
    chunk = max(1, min(tokens, round(demand.own_token)))
    part = demand.own_token / chunk
    prompt_attention_ps = min(
        attention_ps(chunk, chunk, num, False) for num in {1, max(1, min(4, tokens // chunk))}
    ) * max(part, 1.0)  # fmt: skip
    num_step = max(demand.output - 1.0, 0.0)
    decode_dense_ps = max(num_step * rate_ps, num_step / batch * float(dense_ps[1]))
    both_dense_ps = max((demand.own_token + num_step) * rate_ps, num_step / batch * float(dense_ps[1]))
    prefill_ps = demand.own_token * rate_ps + prompt_attention_ps + sample_ps
    decode_ps = decode_dense_ps + num_step * (decode_attention_ps + sample_ps)
    both_ps = both_dense_ps + prompt_attention_ps + sample_ps + num_step * (decode_attention_ps + sample_ps)
    full, rest = divmod(demand.long_own, tokens)
    first_ps = full * dense_ps[tokens] + (step_ps(rest, rest, 1, False) if rest else 0.0)
    alone_ps = step_ps(1, demand.short_prompt + 1, 1, True) if demand.output > 1 else 0.0
    if alone.speculate:  # a step may commit more than a token
        alone_ps = decode_ps = 0.0
        both_ps = prefill_ps
    if not both_ps > 0:
        raise InputError("costs no time", field="system", value=alone.system)
    return Engine(
        alone, setup, first_ps / PS_PER_S, alone_ps / PS_PER_S, prefill_ps / PS_PER_S, decode_ps / PS_PER_S,
        both_ps / PS_PER_S,
    )  # fmt: skip
