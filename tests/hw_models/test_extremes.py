"""Calibrated prices far from the measured shapes: never below speed of light, and no cheaper for more work.

Tiles, waves and split spans make real kernels dip where one more row fills the last wave or ends a split, and a
sliding window may end on a block; what may dip is said beside each bound.
"""

import pathlib

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from hw_models import catalog
from hw_models.calibration.measured import from_frame
from hw_models.device import cost, machine
from kernels.machine import LINK_BYTE_PER_S, LINK_UP
from kernels.optable import ALL_GATHER, ALL_REDUCE, ALL_TO_ALL, REDUCE_SCATTER, empty

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
NUM = 600
SYSTEMS = ("h100_sxm", "a100_sxm", "b200", "l40s", "h200", "rtx_4090", "mi300x")  # measured ones, and heirs of each
HEAD_DIMS = (64, 80, 96, 128, 192, 256)
GROUPS = (1, 4, 5, 8, 16, 64)  # query heads a KV head; with one KV head this is MQA


def spread(rng: np.random.Generator, low: int, high: int) -> Ints:
    """Whole numbers, evenly on a logarithmic scale, both ends among them."""
    drawn = np.exp(rng.uniform(np.log(low), np.log(high), NUM)).astype(int)
    drawn[:2] = low, high
    return drawn


def prices(system: str, frame: pd.DataFrame) -> tuple[Floats, Floats]:
    """Seconds, calibrated and at the speed of light."""
    rows = from_frame(frame.assign(kernel="any", latency_ms=1.0), pathlib.Path("drawn"))
    arrays = (machine(catalog.system(system), fidelity) for fidelity in ("calibrated", "sol"))
    calibrated, light = (cost(rows.ops, rows.work, each)["time_ps"].astype(float) for each in arrays)
    return calibrated, light


def assert_sane(system: str, frame: pd.DataFrame, least: dict[str, float]) -> None:
    """`least`: column -> smallest ratio of times that may follow from more of it (one more, a third more, twice)."""
    base, light = prices(system, frame)
    assert np.isfinite(base).all()
    assert (base >= light * (1 - 1e-9)).all(), frame.iloc[int(np.argmin(base / light))].to_dict()
    for column, ratio in least.items():
        for times in (1.0, 1.3, 2.0):
            grown = frame.copy()
            grown[column] = np.maximum(frame[column] + 1, (frame[column] * times).astype(int))
            change = prices(system, grown)[0] / base
            worst = int(np.argmin(change))
            assert change[worst] >= ratio, (system, column, times, change[worst], frame.iloc[worst].to_dict())


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("dtype", ["bfloat16", "fp8_block"])
def test_gemm(system: str, dtype: str) -> None:
    if dtype == "fp8_block" and system == "a100_sxm":
        return  # no fp8 pipe
    rng = np.random.default_rng(1)
    m, n, k = (spread(rng, low, high) for low, high in ((1, 65536), (1, 131072), (16, 131072)))
    frame = pd.DataFrame({"m": m, "n": n, "k": k, "dtype": dtype})
    # a last wave that fills: 3 %; a k loop that becomes long enough to be split: 1 %
    assert_sane(system, frame, {"m": 0.96, "n": 0.96, "k": 0.98})


def attention(rng: np.random.Generator, kv_dtype: str, windows: tuple[int, ...]) -> pd.DataFrame:
    kv_head = rng.choice((1, 2, 8), NUM)
    return pd.DataFrame(
        {
            "num_kv_head": kv_head,
            "num_head": kv_head * rng.choice(GROUPS, NUM),
            "head_dim": rng.choice(HEAD_DIMS, NUM),
            "window": rng.choice(windows, NUM),
            "dtype": "bfloat16",
            "kv_dtype": kv_dtype,
        }
    )


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("kv_dtype", ["bfloat16", "fp8"])
def test_decode_attention(system: str, kv_dtype: str) -> None:
    rng = np.random.default_rng(2)
    frame = attention(rng, kv_dtype, (0, 0, 128, 4096)).assign(batch=spread(rng, 1, 1024))
    frame["kv_len"] = spread(rng, 1, 262144)
    # spans split for few CTAs and whole for more, 10 % on the few-probe devices; FlashAttention 2 splits one sequence
    # of one KV head over all cores and pays for merging it: 35 % (so measured at batch 1 and 2 on A100)
    packed = 0.88 if system in ("h100_sxm", "b200", "h200") else 0.65
    assert_sane(system, frame, {"batch": packed, "kv_len": 0.85})


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("kv_dtype", ["bfloat16", "fp8"])
def test_prefill_attention(system: str, kv_dtype: str) -> None:
    rng = np.random.default_rng(3)
    frame = attention(rng, kv_dtype, (0,)).assign(batch=spread(rng, 1, 32), query_len=spread(rng, 2, 16384))
    frame["prefix_len"] = spread(rng, 1, 131072) * rng.integers(0, 2, NUM)
    # spans split for few CTAs: 12 %
    assert_sane(system, frame, {"batch": 0.88, "query_len": 0.88, "prefix_len": 0.85})


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_window_bounds_what_a_longer_prefix_costs(system: str) -> None:
    rng = np.random.default_rng(4)
    frame = attention(rng, "bfloat16", (128, 1024, 4096)).assign(batch=spread(rng, 1, 32))
    frame["query_len"] = spread(rng, 2, 4096)
    near, far = (prices(system, frame.assign(prefix_len=prefix))[0] for prefix in (8192, 131072))
    # the same keys are seen; a window that ends on a block spares one of as few as three blocks
    assert ((near / far > 0.7) & (near / far < 1.4)).all()


@pytest.mark.parametrize("system", SYSTEMS)
def test_experts(system: str) -> None:
    rng = np.random.default_rng(5)
    expert = rng.choice((8, 16, 64, 128, 256), NUM)
    frame = pd.DataFrame(
        {
            "num_token": spread(rng, 1, 32768),
            # aligned on every rank: from a width that is not, a wider one may take a tenth (rows loaded by vectors)
            "hidden": (spread(rng, 512, 8192) + 127) // 128 * 128,
            "inter": (spread(rng, 256, 32768) + 127) // 128 * 128,
            "num_expert": expert,
            "topk": rng.choice((1, 2, 8), NUM),
            "tp": rng.choice((1, 2, 8), NUM),
            "ep": rng.choice((1, 2, 8), NUM),
            "distribution": rng.choice(("balanced", "power_law_1.01", "power_law_1.2"), NUM),
            "dtype": "bfloat16",
        }
    )
    # a configuration of the next row tile, and its order of tiles that reads weights once from 129 tokens an expert on;
    # where an expert's weights overflow the cache for every tile but the first, this ends up to a half of the reading
    assert_sane(system, frame, {"num_token": 0.4, "hidden": 0.99, "inter": 0.99})
    wide = frame.assign(num_token=frame["num_token"] + 129 * expert)  # one configuration
    assert_sane(system, wide, {"num_token": 0.95})


@pytest.mark.parametrize("system", ["dgx_h100", "dgx_a100", "hgx_b200", "hgx_h200"])
def test_collectives(system: str) -> None:
    """The library's tuner changes its protocol by its own estimates, which may be late: a larger message may take 25 %
    less there."""
    byte = np.geomspace(16, 4e9, 400)
    for group in (2, 3, 4, 8):
        built = machine(catalog.system(system), "calibrated", group_size=group)
        for kind in (ALL_REDUCE, ALL_GATHER, REDUCE_SCATTER, ALL_TO_ALL):
            ops, work = empty(len(byte))
            ops["kind"], ops["group_size"], ops["link_byte"] = kind, group, byte
            times = cost(ops, work, built)["time_ps"] * 1e-12
            moved = (group - 1) / group  # each device's own piece stays
            if kind == ALL_REDUCE:  # there and back, or added in the switch
                moved = min(2 * moved, (group + 1) / group)
            assert (times >= moved * byte / built.link[LINK_UP, LINK_BYTE_PER_S]).all()
            assert (times[1:] >= 0.75 * np.maximum.accumulate(times)[:-1]).all(), (system, group, kind)
