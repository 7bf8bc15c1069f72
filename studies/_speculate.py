"""A batch that decodes with and without drafts: what the studies of speculation share."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from hw_models import catalog
from hw_models.device import machine
from kernels.engine import records as at
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
from workloads.models.tensors import num_param
from workloads.models.spec import ModelSpec
from workloads.requests import build as requests_of

MAX_TOKEN = 1024


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
    draft: ModelSpec | None = None, host: HostTime | None = None, fidelity: str = "calibrated", seed: int = 0,
) -> Decoded:  # fmt: skip
    """`batch` sequences that begin together; without `progress` a token a step."""
    found, formats, host = catalog.system(system), parse(fmt), host or HostTime()
    policy = find("policy", f"vllm_v1:max_token={MAX_TOKEN},max_seq={batch}")
    if progress:
        policy = replace(policy, progress=find("progress", progress))
    arrays = machine(found, fidelity)
    one = placement.make(model)
    price, _ = build(model, formats, one, machine_of(policy, arrays), max_token=MAX_TOKEN, max_seq=MAX_TOKEN, host=host)
    if draft is not None:
        passes, _ = draft_price(DraftModel(draft, formats, placement.make(draft), arrays), host, MAX_TOKEN, 16)
        price = price._replace(draft=passes)
    load = requests_of(np.zeros(batch, np.int64), [prompt] * batch, [output] * batch)
    limits = Limits(num_block=1 << 20, max_context_token=1 << 20, prefix_cache=False)
    router, options = find("router", "round_robin"), Options(seed=seed, record_steps=True)
    result = serve(load, price, policy, router, limits, options)
    assert result.step is not None
    step = {name: result.step[:, i] for i, name in enumerate(at.LOG_COLUMNS)}
    plain = step["num_prefill"] == 0
    span_s = (step["end_ps"] - step["start_ps"])[plain].sum() / PS_PER_S
    committed, steps = batch * (output - 1), int(result.request["num_verify"].sum())
    gap = (result.request["last_token_ps"] - result.request["first_token_ps"]) / (output - 1) / PS_PER_S
    flop = 2.0 * num_param(model) * float(step["num_sampled"][plain].sum())
    return Decoded(
        float(gap.mean()), committed / span_s, committed / steps if steps else 1.0,
        float(result.request["drafted_token"].sum()) / steps if steps else 0.0,
        float(result.draft.head_count[0, 1:].sum()) / committed if result.draft is not None else 0.0,
        float(plain.sum()) / (output - 1), flop / span_s / found.device.peak(fmt),
    )  # fmt: skip
