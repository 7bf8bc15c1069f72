"""Speculation from a scenario to its report: what is refused, what a draft model takes, what is said."""

import dataclasses

import pytest

from kernels.errors import InputError
from sim.cluster.parts import kv_byte
from sim.cluster.simulate import simulate_pools
from sim.run.scenario import Scenario, from_mapping
from sim.run.setup import prepare
from sim.run.simulate import policy_of, prepared, simulate
from sim.show.report import console
from workloads import memory
from workloads.kv import token_byte

BASE = Scenario(
    model="llama-3-8b", system="h100_sxm", fidelity="sol", requests="batch:n=6,prompt=60,output=40", max_model_len=4096,
    policy="vllm_v1:max_token=256,max_seq=8",
)  # fmt: skip
DRAFT = {"speculate": "chain:k=3,accept=0.8", "draft_model": "llama-3.2-1b"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"draft_model": "gpt2"}, "draft_model = 'gpt2': has no effect without speculate"),
        ({"speculate": "chain", "draft_tp": 2, "tp": 2}, "draft_tp = 2: has no effect without draft_model"),
        (DRAFT | {"draft_tp": 2}, "draft_tp = 2: more devices than tp = 1"),
        ({"speculate": " "}, "speculate = ' ': is blank"),
        ({"speculate": "chian"}, "progress = 'chian': no such progress"),
        ({"speculate": "chain:accept=2"}, "progress chain: accept = '2': out of range"),
        ({"speculate": "chain:p2=-0.5"}, "progress chain: p2 = -0.5: not a probability"),
        (DRAFT | {"speculate": "chain:k=0"}, "draft_model = 'llama-3.2-1b': has no effect: chain:k=0 drafts no token"),
        (DRAFT | {"draft_model": "llama-3.2-2b"}, "draft_model = 'llama-3.2-2b': no such model"),
        (DRAFT | {"draft_model": "nobody/none"}, "draft_model = 'nobody/none': neither a ready model nor in the local"),
        (
            DRAFT | {"draft_model": "gpt2", "max_model_len": 1024, "tp": 8, "draft_tp": 8, "system": "dgx_h100"},
            "draft_tp = 8: of the draft model, tp = 8: does not divide the 12 attention heads of gpt2",
        ),
        (DRAFT | {"draft_model": "gpt2"}, "max_model_len = 4096: gpt2 drafts for contexts of 1024 tokens"),
        (DRAFT | {"model": "deepseek-v2-lite", "tp": 1, "attn_dp": 2, "ep": 2}, "draft_model = 'llama-3.2-1b': attent"),
    ],
)
def test_what_has_no_effect_or_cannot_be_is_refused(change, message):
    with pytest.raises(InputError) as caught:
        simulate(from_mapping({**dataclasses.asdict(BASE), **change}))
    assert str(caught.value).startswith(message)


def test_a_draft_model_takes_weights_and_kv_of_the_first_stage():
    plain, drafted = (prepared(one, policy_of(one)) for one in (BASE, dataclasses.replace(BASE, **DRAFT)))
    draft = drafted.draft
    assert draft is not None
    own = sum(memory.weight_byte(draft.model, draft.formats, draft.placement, 0).values())
    assert drafted.budget.weight["draft model"] == own
    kv = memory.kv_byte_per_token(draft.model, draft.formats, draft.placement)
    assert drafted.budget.kv_per_token == plain.budget.kv_per_token + kv
    needed = [
        round(memory.activation_byte(*of, 0, 256, 32))  # 32 sampled rows, not 8
        for of in ((plain.model, plain.formats, plain.placement), (draft.model, draft.formats, draft.placement))
    ]
    assert drafted.budget.activation == max(needed)
    assert drafted.budget.kv == plain.budget.kv - own - (drafted.budget.activation - plain.budget.activation)
    assert kv_byte(drafted, token_byte) == kv_byte(plain, token_byte) + kv  # what a hand-over moves
    staged = prepare(dataclasses.replace(BASE, **DRAFT, pp=2))
    assert ("draft model" in staged.budget.weight) == (staged.budget.stage == 0)


def test_a_report_says_what_held():
    done = simulate(dataclasses.replace(BASE, **DRAFT))
    metrics, requests = done.metrics, done.run.requests
    drafted, accepted = int(requests["drafted_token"].sum()), int(requests["accepted_token"].sum())
    assert metrics["spec_decode_draft_tokens"] == drafted == 3 * metrics["spec_decode_num_drafts"]
    assert metrics["spec_decode_acceptance_rate"] == 100 * accepted / drafted
    # a request's tokens: the prompt's, then one a verification and what held
    assert (requests["committed_token"] == 1 + requests["num_verification"] + requests["accepted_token"]).all()
    text = console(done.run, metrics)
    assert text.index("Acceptance rate (%)") < text.index("Time to First Token")
    assert "drafts by llama-3.2-1b" in " ".join(text.split())
    plain = simulate(BASE)
    assert "Acceptance" not in console(plain.run, plain.metrics)
    assert metrics["mean_tpot_ms"] < plain.metrics["mean_tpot_ms"]  # a model of an eighth pays at this acceptance
    # the time in steps is all named, the draft model's too
    spent = sum(row for name, row in zip(done.accounts.name, done.accounts.time_ps, strict=True))
    assert spent == int(done.result.stage_busy_ps.sum())
    assert any(name.startswith("draft ") for name in done.accounts.name)


def test_drafts_that_cost_nothing_beat_those_of_a_model():
    free = simulate(dataclasses.replace(BASE, speculate=DRAFT["speculate"]))
    paid = simulate(dataclasses.replace(BASE, **DRAFT))
    assert free.metrics["spec_decode_draft_tokens"] == paid.metrics["spec_decode_draft_tokens"]
    assert free.metrics["mean_tpot_ms"] < paid.metrics["mean_tpot_ms"]
    for name in ("pad", "split"):  # kernels that BASS compares are no faster than one that takes any lengths
        form = dataclasses.replace(BASE, fidelity="calibrated", engine="none", speculate=f"bass:accept=0.8,form={name}")
        ragged = dataclasses.replace(form, speculate="bass:accept=0.8")
        assert simulate(form).metrics["mean_tpot_ms"] > simulate(ragged).metrics["mean_tpot_ms"]


def test_pools_that_speculate_hand_the_draft_models_kv_over():
    load = "constant:rate=4,n=6,prompt=400,output=30"
    base = dataclasses.replace(BASE, system="dgx_h100", requests=load)
    plain, drafted = (
        simulate_pools(one, {}, {}, link_byte_per_s=25e9) for one in (base, dataclasses.replace(base, **DRAFT))
    )
    assert drafted.requests["served"].all()
    assert drafted.requests["tpot_s"].mean() < plain.requests["tpot_s"].mean()
    moved = drafted.result.moved_byte / plain.result.moved_byte
    own, both = (
        kv_byte(prepared(one, policy_of(one)), token_byte) for one in (base, dataclasses.replace(base, **DRAFT))
    )
    assert moved == pytest.approx(both / own)
