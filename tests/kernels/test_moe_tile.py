"""Tiles of Triton's experts: published rules of two releases, the table of A100, grids made before rows are counted."""

import pytest

from kernels.moe_tile import (
    BY_EXPERT,
    BY_ROW,
    BY_TOKEN,
    BY_TOKEN_BLOCK,
    TUNED,
    TUNED_A100,
    TUNED_H100,
    WIDE,
    grid_tile,
    moe_tile,
    sorts,
)


@pytest.mark.parametrize(
    ("m", "tile"),
    [(1, (16, 64)), (32, (16, 64)), (33, (32, 64)), (65, (32, 128)), (97, (64, 128)), (513, (128, 128))],
)
def test_by_token_as_vllm_0_17_has_it(m: int, tile: tuple[float, float]) -> None:
    assert moe_tile(m, 64, 1408, BY_TOKEN)[:2] == tile


def test_row_tiles_share_a_pass_from_many_tokens_an_expert_on() -> None:
    assert moe_tile(129 * 8 - 1, 8, 14336, BY_TOKEN)[3] == 1.0
    assert moe_tile(129 * 8, 8, 14336, BY_TOKEN)[3] == 16.0


def test_earlier_releases_ask_only_whether_tokens_outnumber_local_experts() -> None:
    for local in (8, 256):
        assert moe_tile(local, local, 512, BY_EXPERT) == (16.0, 32.0, 64.0, 1.0)
        assert moe_tile(local + 1, local, 512, BY_EXPERT) == (64.0, 64.0, 32.0, 8.0)


def test_a_table_stands_for_its_own_shapes_alone() -> None:
    for local, width in TUNED:
        assert moe_tile(4096, local, width, TUNED_A100) == moe_tile(4096, local, width, BY_TOKEN)
    assert (8, 14336) not in TUNED  # Mixtral on one device runs the rule, on two the table
    assert moe_tile(4096, 8, 14336, TUNED_A100) == moe_tile(4096, 8, 14336, BY_EXPERT)


def test_mixtrals_table_on_h100_is_wide_from_its_entry_of_1024_tokens_on() -> None:
    for width in WIDE:
        assert moe_tile(768, 8, width, TUNED_H100) == moe_tile(768, 8, width, BY_TOKEN)
        assert moe_tile(1024, 8, width, TUNED_H100)[:3] == (128.0, 256.0, 64.0)
    for local, width in ((8, 14336), (16, 1792), (64, 1280)):  # no table, or one that chooses as the rule
        assert moe_tile(4096, local, width, TUNED_H100) == moe_tile(4096, local, width, BY_TOKEN)
    assert sorts(64, 8, 2, TUNED_H100) == sorts(64, 8, 2, BY_TOKEN)


def test_blocks_of_scales_fix_columns_and_k() -> None:
    assert [moe_tile(m, 8, 2048, BY_TOKEN_BLOCK)[0] for m in (64, 65)] == [16.0, 64.0]
    assert moe_tile(64, 8, 2048, BY_TOKEN_BLOCK)[1:3] == (128.0, 128.0)


def test_rows_of_an_expert_choose_the_smallest_tile_that_holds_them() -> None:
    assert [moe_tile(1, 8, 2048, BY_ROW, row)[0] for row in (0.1, 16.0, 17.0, 40.0, 1000.0)] == [16, 16, 32, 64, 64]


def test_a_grid_is_no_smaller_than_the_work_and_no_larger_than_its_rows() -> None:
    for m in (1, 7, 64, 4096):
        tile_m = moe_tile(m, 256, 512, BY_TOKEN)[0]
        grid = grid_tile(m, 256, 8, 10.0, BY_TOKEN, tile_m)
        assert 10.0 <= grid <= max(10.0, 8.0 * m)
        assert grid_tile(m, 256, 8, 10.0, 128.0, 128.0) == 10.0


def test_few_rows_are_not_sorted() -> None:
    assert [sorts(m, 256, 8, BY_TOKEN) for m in (1, 8, 9)] == [False, False, True]
    assert not sorts(9, 256, 8, BY_EXPERT)
