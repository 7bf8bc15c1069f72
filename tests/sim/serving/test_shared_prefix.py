"""A shared prefix read once: bytes by hand, and the published kernels on A40."""

import pandas as pd

from kernels.optable import mem_byte
from tests.oracles.shared_prefix import against, launched, operators, step_s
from tests.shared_data import folder

HEADS = {"num_head": 52, "num_kv_head": 52, "head_dim": 128}


def test_reading_once_saves_all_but_one_read_of_the_prefix() -> None:
    apart, _ = operators(16, 128, 2048, False, **HEADS)
    together, _ = operators(16, 128, 2048, True, **HEADS)
    row_byte = 2 * 16 * 52 * 128 * 2.0  # the second attention reads the queries and writes results again
    saved = 15 * 2048 * 52 * 256 * 2.0  # keys and values of the prefix, 52 heads, 2 B
    assert mem_byte(apart).sum() - mem_byte(together).sum() == saved - row_byte
    assert apart["flop"].sum() == together["flop"].sum()


def test_alone_there_is_nothing_to_share() -> None:
    arrays = launched("a40")
    assert step_s(arrays, 1, 128, 1024, True, **HEADS) > step_s(arrays, 1, 128, 1024, False, **HEADS)
    assert step_s(arrays, 32, 128, 16384, True, **HEADS) < step_s(arrays, 32, 128, 16384, False, **HEADS) / 20


def test_measured_kernels_on_a40() -> None:
    file = folder("serving", "relay_attention", "op_a40_llama30b_heads.csv")
    found = against(pd.read_csv(file))
    long = found[found["prefixlen"] >= 512]
    assert len(long) == 166
    assert long["error"].abs().median() < 0.05  # the bound is 10 %; nothing is fitted but launches
    assert long[long["relay"]]["error"].abs().median() < 0.08
