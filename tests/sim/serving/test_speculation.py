"""Steps that commit several tokens: the same integers on every clock, what is expected of a draw, nothing lost."""

import dataclasses
import textwrap
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.engine.price import StepPrice
from kernels.errors import InputError
from sim.serving.engine import serve
from sim.serving.limits import Limits, Options
from sim.serving.plugin import Plugin, find
from sim.serving.result import ServeResult
from sim.serving.rules import Group
from tests.sim.serving.serving_case import attention_price, flat_price, load, preempts, rules_drawn, run, same
from tests.sim.serving.test_run_ahead import GROUPS, POLICIES, loads

MODELS = ["chain:k=3,accept=0.8,p2=0.3", "chain:k=9,accept=0.9", "bass:accept=0.8,limit=9,first=2",
          "staged:depth=3,width=2,accept=0.6,side=0.5,inner=1", "chain:k=0"]  # fmt: skip
NUM_SAMPLED = 8 * 11


def with_draft(price: StepPrice, num_stage: int) -> StepPrice:
    """The same prices, with a draft model of one class of attention, less host time and no graphs."""
    draft = attention_price(512, 512, 1, window=24)._replace(num_device=1, graph_token=0)
    draft.dense_ps[:] //= 7
    draft.host_ps[:] //= 9
    return price._replace(draft=draft)


PRICES = {
    (num_stage, drafts): with_draft(made, num_stage) if drafts else made
    for num_stage in (1, 3)
    for drafts in (False, True)
    for made in [attention_price(512, NUM_SAMPLED, num_stage, window=40)]
}


def policy_with(policy: str, model: str) -> Plugin:
    return dataclasses.replace(find("policy", policy), progress=find("progress", model) if model else None)


def speculate(
    requests: Any, price: StepPrice, policy: str, model: str, limits: Limits, router: str = "round_robin",
    **options: Any,
) -> ServeResult:  # fmt: skip
    return serve(requests, price, policy_with(policy, model), find("router", router), limits, Options(**options))


def same_drafts(one: ServeResult, other: ServeResult) -> None:
    same(one, other)
    assert (one.draft is None) == (other.draft is None)
    if one.draft is not None and other.draft is not None:
        assert one.draft.time_ps == other.draft.time_ps
        for name in ("token_count", "head_count", "attn"):
            np.testing.assert_array_equal(getattr(one.draft, name), getattr(other.draft, name), err_msg=name)


@pytest.mark.parametrize("model", MODELS)
@settings(max_examples=25, deadline=None)
@given(
    policy=st.sampled_from(POLICIES),
    requests=loads(),
    num_block=st.sampled_from([48, 60, 200]),
    num_replica=st.sampled_from([1, 3]),
    num_stage=st.sampled_from([1, 3]),
    drafts=st.booleans(),
    swap=st.booleans(),
    prefix_cache=st.booleans(),
    rules=rules_drawn(),
    groups=st.sampled_from(GROUPS),
    plan_ahead=st.sampled_from([0, 1]),
    seed=st.sampled_from([0, 7, 2**63 - 1]),
)
def test_run_ahead_equals_stepping_and_nothing_is_lost(
    model, policy, requests, num_block, num_replica, num_stage, drafts, swap, prefix_cache, rules, groups, plan_ahead,
    seed,
):  # fmt: skip
    if "reserve" in policy:
        num_block += 100
    limits = Limits(
        num_block=num_block, block_token=4, max_context_token=160, num_replica=num_replica,
        prefix_cache=prefix_cache, rules=rules, groups=groups, plan_ahead=plan_ahead, **preempts(swap, rules),
    )  # fmt: skip
    price = PRICES[num_stage, drafts]
    ahead, step = (
        speculate(requests, price, policy, model, limits, "least_token", engine=engine, record_steps=True, seed=seed)
        for engine in ("run-ahead", "stepping")
    )
    same_drafts(ahead, step)
    conserved(ahead, policy, model)


def conserved(result: ServeResult, policy: str, model: str) -> None:
    """Every token of a step is a verified, a decoded or a prompt's, every committed one has been sampled, all blocks
    come back."""
    column, count = result.request, {name: int(values.sum()) for name, values in result.counter.items()}
    served = column["reason"] == 0
    np.testing.assert_array_equal(column["produced_token"][served], column["output_token"][served])
    assert (column["accepted_token"] <= column["drafted_token"]).all()
    most = find("progress", model).module.most(find("progress", model).value)
    assert (column["drafted_token"] <= most * column["num_verify"]).all()
    assert result.step is not None
    assert int(result.token_count.sum()) == count["num_step"] == int(result.head_count.sum())
    token = int((result.token_count[0] * np.arange(result.token_count.shape[1])).sum())
    assert token == count["num_token"]
    sampled = int((result.head_count[0] * np.arange(result.head_count.shape[1])).sum())
    assert sampled == count["num_sampled"]
    # a sampled token is committed, or one that a draft was wrong about, or beyond an end; or of a step that still ran
    # when its sequence was preempted, whose drafts nobody judged
    committed, drafted = count["num_output_token"], int(column["drafted_token"].sum())
    idle = int(result.step[:, 6].sum())
    lost = sampled - idle - (committed + drafted - int(column["accepted_token"].sum()))
    assert 0 <= lost <= (most + 1) * (count["num_recompute"] + count["num_swap"])
    assert int(result.gap_count.sum()) == int(np.maximum(column["produced_token"] - 1, 0).sum())


@pytest.mark.parametrize("policy", POLICIES)
def test_no_drafts_are_plain_decoding(policy):
    """A chain of no tokens is the engine without a progress model, to the last integer; the same where folded."""
    random = np.random.default_rng(5)
    requests = load(np.sort(random.integers(0, 3000, 14)), random.integers(1, 90, 14), random.integers(1, 60, 14))
    limits = Limits(num_block=160, block_token=4, max_context_token=160)
    for num_stage in (1, 3):
        price = PRICES[num_stage, False]
        plain = run(requests, price, policy, limits)
        same(plain, speculate(requests, price, policy, "chain:k=0", limits))


def test_what_never_holds_costs_what_verifying_it_costs():
    """Acceptance 0: one token a step, as plain decoding, and a step is longer by its drafted tokens alone."""
    requests = load([0], [10], [21])
    limits = Limits(num_block=100)
    plain = run(requests, flat_price(), "vllm_v1", limits)
    never = speculate(requests, flat_price(max_seq=2048), "vllm_v1", "chain:k=3,accept=0", limits)
    assert never.counter["num_step"] == plain.counter["num_step"] == 21
    assert never.span_ps - plain.span_ps == 20 * 3 * 1_000_000
    free = speculate(requests, flat_price(token_us=0, max_seq=2048), "vllm_v1", "chain:k=3,accept=0", limits)
    assert free.span_ps == run(requests, flat_price(token_us=0), "vllm_v1", limits).span_ps
    always = speculate(requests, flat_price(max_seq=2048), "vllm_v1", "chain:k=3,accept=1", limits)
    assert always.counter["num_step"] == 1 + 20 // 4


def mean_committed(model: str, num: int = 16, output: int = 1500) -> tuple[float, float]:
    """Tokens that a verification commits, and how many verifications there were."""
    requests = load([0] * num, [4] * num, [output] * num)
    limits = Limits(num_block=1 << 20, max_context_token=8192)
    result = speculate(requests, flat_price(max_seq=4096), f"vllm_v1:max_token=4096,max_seq={num}", model, limits)
    steps = int(result.request["num_verify"].sum())
    return 1 + int(result.request["accepted_token"].sum()) / steps, steps


@pytest.mark.parametrize(("k", "accept"), [(1, 0.5), (3, 0.8), (4, 0.6), (7, 0.9), (5, 0.1)])
def test_a_chain_commits_what_leviathan_expects(k, accept):
    mean, steps = mean_committed(f"chain:k={k},accept={accept}")
    assert mean == pytest.approx((1 - accept ** (k + 1)) / (1 - accept), abs=5 * k / steps**0.5 / 2)


def test_a_table_by_position_multiplies():
    mean, steps = mean_committed("chain:k=3,p1=0.9,p2=0.5,p3=0.2")
    assert mean == pytest.approx(1 + 0.9 * (1 + 0.5 * (1 + 0.2)), abs=5 * 3 / steps**0.5 / 2)


def test_a_tree_and_its_second_stage_have_their_closed_forms():
    depth, accept, side, inner, second = 5, 0.7, 0.4, 3, 0.6
    model = f"staged:depth={depth},width=2,accept={accept},side={side},inner={inner},inner_accept={second}"
    mean, steps = mean_committed(model)
    expected = 1 + (accept + (1 - accept) * side) * (1 - accept**depth) / (1 - accept)
    assert mean == pytest.approx(expected, abs=5 * depth / steps**0.5 / 2)
    assert mean_committed(f"staged:depth={depth},accept={accept},inner=0") == mean_committed(
        f"chain:k={depth},accept={accept}"
    )
    # passes of the draft model until the spine is whole: a renewal of 1 + what holds of the second stage's tokens
    left = [0.0] * (depth + 1)
    for n in range(1, depth + 1):
        most = min(inner, n - 1)
        ends = [second**j * (1 - second) for j in range(most)] + [second**most]
        left[n] = 1 + sum(p * left[n - 1 - j] for j, p in enumerate(ends))
    requests = load([0] * 8, [4] * 8, [2000] * 8)
    price = with_draft(attention_price(512, 512), 1)
    limits = Limits(num_block=1 << 20, max_context_token=8192)
    for size in (1, 8):  # alone, a pass is one sequence's; of a batch, the slowest decides
        result = speculate(requests, price, f"vllm_v1:max_token=512,max_seq={size}", model, limits)
        assert result.draft is not None
        passes = int(result.draft.token_count.sum() - result.counter["num_prefill_step"].sum())
        if size == 1:
            assert passes / int(result.request["num_verify"].sum()) == pytest.approx(left[depth], rel=0.02)
        else:
            assert passes / int(result.counter["num_decode_step"].sum()) > left[depth]


def test_draws_belong_to_requests_and_positions():
    """What holds of a request does not depend on who runs beside it, on the clock, or on preemption."""
    random = np.random.default_rng(1)
    num = 12
    requests = load(np.sort(random.integers(0, 900, num)), random.integers(1, 40, num), random.integers(20, 90, num))
    column = []
    flat = flat_price(max_seq=512)
    for price, policy, num_block in (
        (flat, "vllm_v1:max_seq=12", 4000), (PRICES[1, True], "vllm_v1:max_token=512,max_seq=2", 4000),
        (PRICES[3, False], "sarathi:max_token=512,max_seq=8", 4000), (flat, "vllm_v1:max_seq=12", 45),
    ):  # fmt: skip
        limits = Limits(num_block=num_block, block_token=4, max_context_token=160)
        column.append(speculate(requests, price, policy, "chain:k=4,accept=0.7", limits, seed=3))
    assert column[-1].counter["num_recompute"].sum() > 0
    for other in column[1:3]:
        for name in ("num_verify", "drafted_token", "accepted_token"):
            np.testing.assert_array_equal(column[0].request[name], other.request[name])
    # a recompute produces one token by its prompt, so that some verifications begin elsewhere
    gap = np.abs(column[-1].request["accepted_token"] - column[0].request["accepted_token"])
    assert (gap <= 4 * column[-1].request["num_preempted"]).all()
    other = speculate(requests, flat_price(max_seq=512), "vllm_v1:max_seq=12", "chain:k=4,accept=0.7",
                      Limits(num_block=4000, block_token=4, max_context_token=160), seed=4)  # fmt: skip
    assert (other.request["accepted_token"] != column[0].request["accepted_token"]).any()


def test_bass_drafts_as_long_as_the_batch_accepts():
    """Algorithm 1 finds short drafts where little holds, and its limit where all does."""

    def drafted(accept: float, num: int = 4, output: int = 600) -> float:
        requests = load([0] * num, [4] * num, [output] * num)
        limits = Limits(num_block=1 << 20, max_context_token=8192)
        result = speculate(
            requests, flat_price(max_seq=2048), f"vllm_v1:max_seq={num}", f"bass:accept={accept}", limits
        )
        return float(result.request["drafted_token"].sum() / result.request["num_verify"].sum())

    lengths = [drafted(accept) for accept in (0.0, 0.5, 0.8, 0.95)]
    assert lengths == sorted(lengths)
    assert lengths[0] < 1.1
    assert 30 < drafted(1.0, output=6000) <= 32
    assert drafted(0.8, 16) > drafted(0.8, 1)  # the longest of more runs


MODEL = '''
"""Two tokens where the output position is even, none where it is odd; the first of them holds."""

from kernels.engine.progress import num_running, position, propose_token, running

OPTIONS = {}
COMPILED = %s


def most(value):
    return %s


def propose(e):
    for k in range(num_running(e)):
        i = running(e, k)
        propose_token(e, i, 2 if position(e, i) %% 2 == 0 else 0, 2, 1)
    return 0


def accept(e, i, num_token):
    return %s
'''


def test_a_new_progress_model_is_one_file(tmp_path):
    def write(name: str, *values: object) -> str:
        path = tmp_path / name
        path.write_text(textwrap.dedent(MODEL % values))
        return str(path)

    requests, limits = load([0, 5], [7, 9], [9, 4]), Limits(num_block=50)
    price = flat_price(max_seq=1024)
    compiled, plain = (
        speculate(requests, price, "vllm_v1", write(f"even_{flag}.py", flag, 2, 1), limits) for flag in (True, False)
    )
    assert (compiled.engine, plain.engine) == ("run-ahead", "stepping")
    same(compiled, plain)
    # of the first: 1 | 2, | 3 4 | ... from position 2 on every verification commits two
    assert compiled.request["num_verify"].tolist() == [4, 1]
    assert compiled.request["accepted_token"].tolist() == [3, 1]
    edited = speculate(requests, price, "vllm_v1", write("even_True.py", True, 2, 2), limits)  # as edited
    assert edited.request["accepted_token"].sum() > compiled.request["accepted_token"].sum()
    for values, words in (((2, 3), "commit"), ((1, 1), "verify"), ((-1, 1), "most")):
        with pytest.raises(InputError, match=words):
            speculate(requests, price, "vllm_v1", write(f"bad{values[0]}{values[1]}.py", False, *values), limits)
    (tmp_path / "half.py").write_text("OPTIONS = {}\ndef most(value): return 1\ndef propose(e): return 0\n")
    with pytest.raises(InputError, match="has no function accept"):
        find("progress", str(tmp_path / "half.py"))


def test_a_context_that_drafts_would_leave():
    """Near the end of the context drafts are cut, and KV of drafts beyond an end is room that a store must have."""
    requests = load([0], [10], [22])
    tight = Limits(num_block=8, block_token=4, max_context_token=32)
    done = speculate(requests, flat_price(max_seq=2048), "vllm_v1", "chain:k=4,accept=1", tight)
    assert done.request["produced_token"].tolist() == [22]
    small = Limits(num_block=8, block_token=4, max_context_token=64)
    assert run(requests, flat_price(), "vllm_v1", small).request["reason"].tolist() == [0]
    refused = speculate(requests, flat_price(max_seq=2048), "vllm_v1", "chain:k=4,accept=1", small)
    assert refused.request["reason"].tolist() == [2]  # 31 tokens fit, 35 do not


def test_windows_keep_what_the_verified_queries_see():
    requests = load([0, 100], [50, 30], [40, 60])
    limits = Limits(num_block=44, block_token=4, max_context_token=160, groups=(Group("window", 12), Group()))
    result = speculate(requests, PRICES[1, True], "vllm_v1:max_token=64,max_seq=4", "chain:k=4,accept=0.6", limits)
    assert result.request["produced_token"].tolist() == [40, 60]
