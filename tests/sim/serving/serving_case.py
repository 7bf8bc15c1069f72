"""Small loads and prices whose arithmetic a reader can follow."""

import dataclasses
from typing import Any

import numpy as np
from hypothesis import strategies as st

from kernels.attention import IDEAL_ATTENTION
from kernels.engine.price import StepPrice, blank
from kernels.engine.scan import CHAIN, SCAN_FIELDS, SCAN_SIZE, STREAM
from kernels.machine import MEM_BYTE_PER_S, NUM_CORE, RATES, VECTOR_FLOP_PER_S
from kernels.scan import IDEAL_SCAN, SERIAL
from kernels.stream import IDEAL_STREAM
from sim.serving.engine import serve
from sim.serving.limits import Limits, Options
from sim.serving.plugin import find
from sim.serving.result import ServeResult
from sim.serving.rules import Rules
from workloads.requests import Requests, build

US = 1_000_000  # picoseconds
RATE = dict.fromkeys(RATES, 1.0) | {"mem_byte_per_s": 1e12, "num_core": 100.0, "dynamic_w": 300.0, "idle_w": 80.0}


def load(arrival_us: Any, prompt: Any, output: Any, **columns: Any) -> Requests:
    """Requests with arrivals in microseconds."""
    return build(np.asarray(arrival_us, np.int64) * US, prompt, output, **columns)


def flat_price(
    step_us: float = 10, token_us: float = 1, max_token: int = 4096, max_seq: int = 256, num_stage: int = 1
) -> StepPrice:
    """A step takes `step_us` and `token_us` a computed token on each stage; attention is free."""
    price = blank(num_stage, 1, max_token, max_seq)
    token = np.arange(max_token + 1)
    price.dense_ps[:] = (step_us * US + token_us * US * token).astype(np.int64)
    price.dense_nj[:] = 100 + token
    for shape, fit in ((price.prefill_shape, price.prefill_fit), (price.decode_shape, price.decode_fit)):
        shape[:] = (32, 8, 128, 128, 0, 2.0)  # a shape that can be priced, in no layer
        fit[:, : len(IDEAL_ATTENTION)] = IDEAL_ATTENTION
    price.peak_flop_per_s[:] = 1e14
    price.rate[:] = [RATE[name] for name in RATES]
    return price


def attention_price(max_token: int = 4096, max_seq: int = 256, num_stage: int = 1, window: int = 0) -> StepPrice:
    """Two classes of attention, the second with a window, at ideal rates of 1 TB/s and 100 TFLOP/s."""
    price = blank(num_stage, 2, max_token, max_seq)
    token = np.arange(max_token + 1)
    price.dense_ps[:] = 50 * US + 1_234_567 * token
    price.dense_nj[:] = 1000 + 7 * token
    price.head_ps[:] = 3 * US + 1_001 * np.arange(max_seq + 1)
    price.send_ps[:] = 2 * US + 77 * token
    price.attn_layer[:] = 4
    for shape in (price.prefill_shape, price.decode_shape):
        shape[:] = (32, 8, 128, 128, 0, 2.0)
        shape[1, 4] = window
    price.peak_flop_per_s[:] = 1e14
    price.rate[:] = [RATE[name] for name in RATES]
    assert price.rate[MEM_BYTE_PER_S] == 1e12
    assert price.rate[NUM_CORE] == 100
    price.prefill_fit[:, : len(IDEAL_ATTENTION)] = IDEAL_ATTENTION
    price.decode_fit[:, : len(IDEAL_ATTENTION)] = IDEAL_ATTENTION
    price.dispatch_ps[:] = 80 * US  # more than a step of few tokens computes, less than one of many
    price = price._replace(graph_token=2)  # and none of a step of one or two decodes
    price.host_ps[:] = (20 * US, 300_001, 1_003, 5 * US, 7 * US, 2 * US)
    return price


def with_scans(price: StepPrice) -> StepPrice:
    """The same with recurrences: in three layers a stage a convolution, in two a recurrence of eight heads that runs in
    chains in prompts and reads 3 MB of state a sequence in decodes."""
    scan = np.zeros((2, 2, SCAN_SIZE))
    scan[:, :, : len(SCAN_FIELDS)] = [
        [(STREAM, 0, 1e5, 3e4, 1e4, 3e4, 1e4, 3e4, 1e14)] * 2,
        [(CHAIN, 8, 4e7, 100, 2e4, 3e6, 1e4, 3e6, 1e14), (STREAM, 0, 5e6, 100, 2e4, 3e6, 1e4, 3e6, 1e14)],
    ]
    fit = len(SCAN_FIELDS)
    scan[:, :, fit : fit + len(IDEAL_STREAM)] = IDEAL_STREAM
    scan[1, 0, fit : fit + len(IDEAL_SCAN)] = IDEAL_SCAN
    scan[1, 0, fit + SERIAL] = 1.0
    layer = np.tile(np.array([3, 2]), (len(price.dense_ps), 1))
    rate = price.rate.copy()
    rate[VECTOR_FLOP_PER_S] = 1e13
    return price._replace(scan=scan, scan_layer=layer, rate=rate)


def run(
    requests: Requests, price: StepPrice, policy: str, limits: Limits, router: str = "round_robin", **options: Any
) -> ServeResult:
    """Serves with names instead of plugins."""
    return serve(requests, price, find("policy", policy), find("router", router), limits, Options(**options))


def same(one: ServeResult, other: ServeResult) -> None:
    """Asserts that two runs are the same integers in every account but the number of plans asked for."""
    for name, values in one.request.items():
        np.testing.assert_array_equal(values, other.request[name], err_msg=name)
    for name, values in one.counter.items():
        if name != "num_plan":
            np.testing.assert_array_equal(values, other.counter[name], err_msg=name)
    arrays = ("stage_busy_ps", "token_count", "head_count", "gap_count", "kv_token_ps")
    for name in (*arrays, "attn_ps", "attn_nj", "attn_kb", "attn_mflop"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    assert one.span_ps == other.span_ps
    assert (one.step is None) == (other.step is None)
    if one.step is not None and other.step is not None:
        np.testing.assert_array_equal(one.step, other.step)


def rules_drawn() -> st.SearchStrategy[Rules]:
    """Any rules that go together: a tree of prefixes holds a block once."""
    drawn = st.builds(
        Rules, **{field.name: st.booleans() for field in dataclasses.fields(Rules) if isinstance(field.default, bool)}
    )
    return drawn.map(lambda rules: dataclasses.replace(rules, keep_duplicate=rules.keep_duplicate and not rules.radix))


def preempts(swap: bool, rules: Rules) -> dict[str, Any]:
    """Fields of limits: what is preempted moves to 40 blocks of the host, where the rules let it."""
    moves = swap and not rules.radix
    return {"preemption": "swap" if moves else "recompute", "host_block": 40 * moves}
