"""What adapters take a token, and the memory that the authors' scripts give."""

import pytest

from sim.run.scenario import Scenario
from sim.run.setup import prepare
from studies import s_lora


def test_a_token_reads_the_factors_of_its_own_rank() -> None:
    read = {name: s_lora.token_s(name, 4, 1.0) - s_lora.INDEX_S for name in ("S1", "S2")}
    assert read["S2"] / read["S1"] == pytest.approx((64 + 32 + 16 + 8) / 4 / 8)
    # four projections, three rows of 4,096 values of 2 bytes a rank, 32 layers, rank 8, at L2's 7.2 TB/s
    assert read["S1"] == pytest.approx(4 * 3 * 4096 * 2 * 32 * 8 / 7.2e12, rel=0.01)
    assert s_lora.token_s("S2", 1, 1.0) > s_lora.token_s("S2", 4, 1.0)  # the first adapter is the largest
    assert s_lora.token_s("S1", 4, 0.5) - s_lora.INDEX_S == pytest.approx(2 * read["S1"])


def test_the_store_holds_the_published_tokens() -> None:
    for model, token in s_lora.TOKEN.items():
        share = s_lora.share_of(model)
        found = prepare(
            Scenario(model=model, system=s_lora.SYSTEM, weight_format="fp16", block_token=1, memory_share=share)
        )
        assert found.num_block == pytest.approx(token, rel=1e-3)
