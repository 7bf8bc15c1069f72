"""A batch that decodes with and without drafts: what the studies of speculation share."""

from dataclasses import replace
from typing import Any, NamedTuple, cast

import numpy as np

from hw_models import catalog
from hw_models.device import machine
from kernels.engine import records as at
from kernels.engine.price import StepPrice
from kernels.machine import Machine
from kernels.units import PS_PER_S
from sim.run.setup import DraftModel
from sim.run.step_prices import draft_price
from sim.serving.engine import serve
from sim.serving.limits import Limits, Options
from sim.serving.plugin import find
from sim.serving.speculation import machine_of
from sim.serving.step_price import HostTime, build
from workloads import placement
from workloads.formats import parse
from workloads.models.spec import ModelSpec
from workloads.models.tensors import num_param
from workloads.requests import build as requests_of

MAX_TOKEN = 1024
_prices: dict[tuple[object, ...], StepPrice] = {}


class Decoded(NamedTuple):
    """A batch from its first tokens to its last."""

    token_s: float  # between two tokens of a sequence, in the mean
    token_per_s: float  # of the batch
    verified: float  # tokens that a verification commits
    drafted: float  # tokens that it verifies beyond the next one
    passes: float  # of the draft model, a committed token
    rounds: float  # steps of the model, a committed token of a sequence
    peak_share: float  # of the model's multiplications in the device's peak, while decoding


def decode(
    model: ModelSpec, system: str, fmt: str, batch: int, prompt: int, output: int, *, progress: str = "",
    draft: ModelSpec | None = None, host: HostTime | None = None, fidelity: str = "calibrated", rounds: int = 1,
) -> Decoded:  # fmt: skip
    """`batch` sequences that begin together, `rounds` times one after another; without `progress` a token a step."""
    policy = find("policy", f"vllm_v1:max_token={MAX_TOKEN},max_seq={batch}")
    if progress:
        policy = replace(policy, progress=find("progress", progress))
    arrays, host = machine(catalog.system(system), fidelity), host or HostTime()
    price = _price(model, machine_of(policy, arrays), fmt, host, False)
    if draft is not None:
        price = price._replace(draft=_price(draft, arrays, fmt, host, True))
    num = batch * rounds
    load = requests_of(np.zeros(num, np.int64), [prompt] * num, [output] * num)
    limits = Limits(num_block=1 << 20, max_context_token=1 << 20, prefix_cache=False)
    router, options = find("router", "round_robin"), Options(record_steps=True)
    result = serve(cast(Any, load), price, policy, router, limits, options)
    assert result.step is not None
    step = {name: result.step[:, i] for i, name in enumerate(at.LOG_COLUMNS)}
    plain = step["num_prefill"] == 0
    span_s = (step["end_ps"] - step["start_ps"])[plain].sum() / PS_PER_S
    committed, steps = num * (output - 1), int(result.request["num_verify"].sum())
    gap = (result.request["last_token_ps"] - result.request["first_token_ps"]) / (output - 1) / PS_PER_S
    flop = 2.0 * num_param(model) * float(step["num_sampled"][plain].sum())
    return Decoded(
        float(gap.mean()), committed / span_s, committed / steps if steps else 1.0,
        float(result.request["drafted_token"].sum()) / steps if steps else 0.0,
        float(result.draft.head_count[0, 1:].sum()) / committed if result.draft is not None else 0.0,
        float(plain.sum()) / (output - 1) / rounds, flop / span_s / catalog.system(system).device.peak(fmt),
    )  # fmt: skip


def _price(model: ModelSpec, arrays: Machine, fmt: str, host: HostTime, drafts: bool) -> StepPrice:
    """Prices of the model's steps, or of its passes as a draft; kept, since runs differ in what they accept alone."""
    key = (model, fmt, host, drafts, arrays.fit.tobytes(), arrays.rate.tobytes())
    if key not in _prices:
        formats, where = parse(fmt), placement.make(model)
        if drafts:
            _prices[key], _ = draft_price(DraftModel(model, formats, where, arrays), host, MAX_TOKEN, 16)
        else:
            _prices[key], _ = build(model, formats, where, arrays, max_token=MAX_TOKEN, max_seq=MAX_TOKEN, host=host)
    return _prices[key]


def tree_token(depth: int, accept: float, side: float) -> float:
    """Tokens that a verification of a tree commits in the mean (`sim.serving.progress.staged`).

    >>> tree_token(3, 0.5, 0.0), tree_token(3, 1.0, 0.5)
    (1.875, 4.0)
    """
    return 1 + (accept + (1 - accept) * side) * sum(accept**d for d in range(depth))


def spine_pass(depth: int, inner: int, accept: float) -> float:
    """Passes of a draft model until it has `depth` tokens, where `inner` are proposed to it and hold with `accept`.

    >>> spine_pass(5, 0, 0.9), spine_pass(5, 4, 1.0), spine_pass(2, 4, 0.5)
    (5.0, 1.0, 1.5)
    """
    left = [0.0]
    for n in range(1, depth + 1):
        most = min(inner, n - 1)
        ends = [accept**j * (1 - accept) for j in range(most)] + [accept**most]
        left.append(1 + sum(p * left[n - 1 - j] for j, p in enumerate(ends)))
    return left[depth]
