"""What Mnemosyne's parts must hold: chunks within a budget of pairs, stages, KV over nodes."""

import pandas as pd
import pytest

from sim.run.scenario import Scenario
from sim.run.simulate import Simulation, simulate
from studies import mnemosyne

LOAD = "poisson:rate=4,n=12,prompt=6000,output=20"


def served(policy: str, **given: object) -> Simulation:
    scenario = {"model": "llama-3.1-8b", "system": "h100_sxm", "requests": LOAD, "policy": policy}
    return simulate(Scenario(**{**scenario, **given}))  # type: ignore[arg-type]


def test_without_a_bound_on_pairs_chunks_are_those_of_sarathi_serve() -> None:
    plain, neutral = served("sarathi:max_token=1024"), served("mnemosyne:max_token=1024")
    pd.testing.assert_frame_equal(plain.run.requests, neutral.run.requests)
    far = served("mnemosyne:max_token=1024,pair_million=1000000")
    pd.testing.assert_frame_equal(plain.run.requests, far.run.requests)


def test_a_bound_on_pairs_shortens_the_tail_and_no_token_is_lost() -> None:
    plain, bounded = served("sarathi:max_token=1024"), served("mnemosyne:max_token=1024,pair_million=1.5")
    assert bounded.metrics["p99_itl_ms"] < plain.metrics["p99_itl_ms"]
    assert bounded.metrics["total_output_tokens"] == plain.metrics["total_output_tokens"] == 12 * 20
    assert (bounded.run.requests["status"] == "finished").all()


@pytest.mark.parametrize("shards", [1, 2, 16])
def test_no_decode_is_sooner_than_the_bytes_that_it_reads(shards: int) -> None:
    for context in (100_000, 10_000_000):
        took = mnemosyne.chunk_s("llama-3.1-8b", 1, context, shards)
        assert took > mnemosyne.bound_s("llama-3.1-8b", context, shards)


def test_one_node_for_the_kv_exchanges_nothing() -> None:
    assert mnemosyne.exchange_s("llama-3.1-8b", 64, 1) == 0.0
    assert mnemosyne.exchange_s("llama-3.1-8b", 64, 4) > mnemosyne.exchange_s("llama-3.1-8b", 64, 2) > 0


def test_stages_share_a_prompt_and_none_comes_before_its_part() -> None:
    one, _ = mnemosyne.prefill_s("llama-3.1-8b", 500_000, 1, 1, 0.03)
    for stages in (2, 8):
        took, _ = mnemosyne.prefill_s("llama-3.1-8b", 500_000, stages, 1, 0.03)
        assert one / stages < took < 1.1 * one / stages


def test_adaptive_chunks_hold_their_limit_wherever_a_chunk_can() -> None:
    _, slowest = mnemosyne.prefill_s("llama-3.1-8b", 1_000_000, 1, 4, 0.03)
    assert slowest <= 0.03
