"""ByteScale at a small size, and its lengths."""

import pytest

from studies import _long_tail, byte_scale


def test_a_group_for_every_sequence_beats_a_mesh_for_the_longest() -> None:
    table = byte_scale.run(("llama-2-7b",), (256, 512), num_rank=64, token=2**22)
    second = table[table["claim"] == byte_scale.SECONDS]
    mesh, full = (second[second["system"] == name]["simulated"].to_numpy() for name in ("static mesh", "+ offload"))
    assert (mesh > full).all()
    up_to = table[table["claim"].str.endswith("up to")].set_index("setup")["simulated"]
    # more tokens in long sequences leave less for short ones to gain
    assert up_to["GitHub"] > up_to["Byted"] > 1


def test_every_model_has_the_groups_that_the_paper_has() -> None:
    for model in byte_scale.MODELS:
        assert {block.attention.num_kv_head for block in byte_scale.model_of(model).block} == {8}


def test_lengths_have_the_published_share_of_long_tokens() -> None:
    for share in byte_scale.SHARE.values():
        spread = _long_tail.spread_for(1000.0, share, 2**17, 2**21)
        length = _long_tail.dropped(1000.0, spread, 2_000_000, 2**21)
        assert length[length >= 2**17].sum() / length.sum() == pytest.approx(share, rel=0.05)
